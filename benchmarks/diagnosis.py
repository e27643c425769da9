"""Feature aliasing and selectivity of a model and of its backbone (docs/method.md, section 9).

    python benchmarks/diagnosis.py --labels BIQ2021/labelled.csv [--model vit-tiny]

Runs `qfm bench diagnose` on random test photos. Writes its figures, without photos or labels, to
benchmarks/results/diagnosis.csv. QFM_BACKBONE_DIR is the folder of the backbone's weights.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from qfm_iqm import load_model
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.evaluation.diagnosis import diagnose, sample
from qfm_iqm.evaluation.evaluate import recorded_split

RESULTS = Path(__file__).parent / "results" / "diagnosis.csv"


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    model = load_model(options.model)
    table = recorded_split(model.card, read_table(options.labels), "test")
    found = diagnose(model, sample(table, options.images), options.labels.parent)
    assert found.backbone is not None, found.backbone_missing
    figures = {
        "aliasing_random_pairs": found.trained.random_rate,
        "aliasing_public_backbone": found.backbone.rate,
        "aliasing_trained_features": found.trained.rate,
        "noise_sensitivity": found.noise_sensitivity,
        "quality_sensitivity": found.quality_sensitivity,
        "selectivity": found.selectivity,
    }
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "value", "model", "images", "weights_sha256"])
        for name, value in figures.items():
            writer.writerow(
                [name, f"{value:.4f}", options.model, len(found.names), found.weights_sha256]
            )
            print(f"{name:28} {value:8.4f}")
    print(f"Written to {RESULTS}")


if __name__ == "__main__":
    main()
