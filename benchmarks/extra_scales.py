"""Compares working sizes of a trained model, one size and two, by SRCC on validation.

    python benchmarks/extra_scales.py --root BIQ2021 [--model vit-tiny]

Scores the model's validation split with other working sizes than its card's: one size alone, and
with a smaller one in `extra_scales` (`image.preprocess.Preprocessing`). The test split is not
used. Writes benchmarks/results/extra_scales.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from qfm_iqm import load_model
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.evaluation.evaluate import recorded_split
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.metrics.evaluation import evaluate
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.scorer import Scorer

RESULTS = Path(__file__).parent / "results" / "extra_scales.csv"
SIZES: tuple[tuple[int, tuple[int, ...] | None], ...] = (
    (384, None),
    (300, None),
    (384, (300,)),
)


def main() -> None:
    """Measures each choice of sizes, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model = load_model(options.model)
    table = recorded_split(model.card, read_table(options.root / "labelled.csv"), "validation")
    assert table.mos is not None
    paths = [str(path) for path in table.paths(options.root)]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "sizes", "subset", "images", "srcc", "ci_low", "ci_high"])
        for side, extra_scales in SIZES:
            crop = model.card.preprocessing.crop
            preprocessing = Preprocessing(crop=crop, shorter_side=side, extra_scales=extra_scales)
            card = model.card.model_copy(update={"preprocessing": preprocessing})
            rows = Scorer(QualityModel(model.network, card)).score_paths(paths)
            scores = np.array([row.score for row in rows], dtype=float)
            result = evaluate(scores, table.mos, groups=table.group("subset"))
            sizes = "+".join(map(str, (side, *(extra_scales or ()))))
            for row in result.rows:
                if row.metric == "srcc":
                    values = [f"{value:.4f}" for value in (row.value, row.ci_low, row.ci_high)]
                    writer.writerow([model.card.name, sizes, row.subset, row.n, *values])
            whole, mean = result.value("whole", "srcc"), result.value("subset_mean", "srcc")
            print(f"{sizes}: SRCC {whole:.4f}, mean over subsets {mean:.4f}", flush=True)


if __name__ == "__main__":
    main()
