"""How variants of the method react to quality and semantics (docs/method.md, section 9).

    python benchmarks/selectivity.py runs/ablation/biq2021_100 --labels BIQ2021/labelled.csv

Diagnoses every variant and seed of one setting of an ablation, as `qfm bench diagnose` does, on
images of its own test split, the same for all variants of a seed. All runs share one frozen
backbone, so that the tokens of a crop are computed once. Writes selectivity_runs.csv, a row per
run, and selectivity_summary.csv and .md, the paired differences to baseline, random and gaussian,
under benchmarks/results/. Ratios are compared by their logarithm.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.evaluation.diagnosis import diagnose, sample
from qfm_iqm.evaluation.evaluate import recorded_split
from qfm_iqm.metrics.paired_runs import Comparison, Run, compare
from qfm_iqm.model.backbone import Encoder
from qfm_iqm.model.folder import load_model
from qfm_iqm.text_tables import write_csv

RESULTS = Path(__file__).parent / "results"
FIGURES = ("noise_sensitivity", "quality_sensitivity", "selectivity")
REFERENCES = ("baseline", "random", "gaussian")


class Remembering(nn.Module):
    """A frozen encoder that caches its tokens."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self._known: dict[bytes, Tensor] = {}

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """The encoder's tokens of the crops."""
        keys = [hashlib.sha256(crop.numpy().tobytes()).digest() for crop in crops_BCSS]
        missing = [i for i, key in enumerate(keys) if key not in self._known]
        if missing:
            self._known |= zip(
                (keys[i] for i in missing), self.encoder(crops_BCSS[missing]), strict=True
            )
        return torch.stack([self._known[key] for key in keys])


def main() -> None:
    """Diagnoses, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="a setting's folder: seedN/VARIANT/model")
    parser.add_argument("--labels", type=Path, required=True, help="table of rated images")
    parser.add_argument("--images", type=int, default=150, help="images per test split")
    parser.add_argument("--alpha", type=float, default=0.1)
    options = parser.parse_args()
    table = read_table(options.labels)
    rows: list[dict[str, Any]] = []
    for seed_folder in sorted(options.runs.glob("seed*")):
        encoder: Remembering | None = None
        for folder in sorted(path.parent for path in seed_folder.glob("*/model")):
            model = load_model(folder / "model")
            if encoder is None:
                encoder = Remembering(model.network.encoder)
            elif any(
                not torch.equal(mine, first)
                for mine, first in zip(
                    model.network.encoder.state_dict().values(),
                    encoder.encoder.state_dict().values(),
                    strict=True,
                )
            ):
                parser.error(f"{folder} has its own encoder: it was not frozen")
            model.network.encoder = encoder  # type: ignore[assignment]
            images = sample(recorded_split(model.card, table, "test"), options.images)
            found = diagnose(
                model, images, options.labels.parent, alpha=options.alpha, backbone=False
            )
            row: dict[str, Any] = {
                "variant": folder.name,
                "seed": int(seed_folder.name.removeprefix("seed")),
            }
            row |= {"images": len(images), "alpha": options.alpha, "aliasing": found.trained.rate}
            row |= {name: getattr(found, name) for name in FIGURES}
            rows.append(row)
            print(
                *(f"{value:.4f}" if isinstance(value, float) else value for value in row.values())
            )
    if not rows:
        parser.error(f"there is no seedN/VARIANT/model below {options.runs}")
    with (RESULTS / "selectivity_runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    runs = [
        Run(options.runs.name, row["variant"], row["seed"], f"log_{name}", "test", math.log(value))
        for row in rows
        for name in FIGURES
        if (value := row[name])
    ]
    comparisons = compare(runs, REFERENCES)
    write_csv(RESULTS / "selectivity_summary.csv", Comparison._fields, comparisons)
    (RESULTS / "selectivity_summary.md").write_text(table_of(comparisons), "utf-8")


def table_of(comparisons: Sequence[Comparison]) -> str:
    """Medians of the figures, and the selectivity's ratios to the references, as Markdown."""
    found = {(row.variant, row.reference, row.metric): row for row in comparisons}
    names = [name.replace("_", " ") for name in FIGURES]
    lines = [
        f"| variant | {' | '.join(names)} | {' | '.join(f'over {r}' for r in REFERENCES)} |",
        "| --- " * (1 + len(FIGURES) + len(REFERENCES)) + "|",
    ]
    for variant in dict.fromkeys(row.variant for row in comparisons):
        medians = (found[variant, REFERENCES[0], f"log_{name}"].median for name in FIGURES)
        cells = [f"{math.exp(median):.3f}" for median in medians]
        for reference in REFERENCES:
            row = found[variant, reference, "log_selectivity"]
            ratio, low, high = map(math.exp, (row.mean_difference, row.ci_low, row.ci_high))
            same = variant == reference
            cells.append("–" if same else f"{ratio:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
