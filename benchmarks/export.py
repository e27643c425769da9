"""How other runtimes and int8 change the default model's scores, on rated photos.

    python benchmarks/export.py --data DIR     (BIQ2021 with labelled.csv)

Writes benchmarks/results/export.csv: for ONNX Runtime and OpenVINO, in fp32 and int8, SRCC on the
validation split beside torch's, and differences of single scores (in standard deviations of the
labels). Exports that come with the model are used; the others are made here, int8 calibrated on
photos of the training split.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np

from photos import RESULTS, machine
from qfm_iqm import load_model
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import ModelError
from qfm_iqm.evaluation.evaluate import evaluate_model, recorded_split
from qfm_iqm.model.locate import find_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes import export as exporting
from qfm_iqm.scoring.runtimes.base import Precision, Runtime
from qfm_iqm.scoring.runtimes.export_folder import export_name, load_exported

OUT = RESULTS / "export.csv"
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--calibrate", type=int, default=300)
    options = parser.parse_args()
    model = load_model(options.model)
    labels = read_table(options.data / "labelled.csv")
    known = recorded_split(model.card, labels, "train").paths(options.data)
    photos = [str(path) for path in known[:: max(1, len(known) // options.calibrate)]]
    table = recorded_split(model.card, labels, "validation")
    std = model.network.scale.std.item()

    def scored(candidate: QualityModel | Runtime) -> tuple[float, np.ndarray]:
        evaluation, rows = evaluate_model(candidate, table, options.data, n_boot=0)
        srcc = evaluation.row("whole", "srcc").value
        assert srcc is not None
        return srcc, np.array([row.score for row in rows])

    torchs, expected = scored(model)
    rows = [("torch", "fp32", torchs, 0.0, 0.0, 0.0)]
    with tempfile.TemporaryDirectory() as place:
        for target, precision in product(get_args(exporting.Target), PRECISIONS):
            made = find_model(options.model, exports=True) / export_name(target, precision)
            if not made.is_dir():
                made = Path(place) / f"{target}-{precision}"
                try:
                    exporting.export(model, made, target, precision=precision, photos=photos)
                except ModelError as error:
                    print(error)
                    continue
            srcc, scores = scored(load_exported(made))
            differences = np.abs(scores - expected) / std
            rows.append(
                (target, precision, srcc, srcc - torchs, differences.mean(), differences.max())
            )
    facts = machine()
    RESULTS.mkdir(exist_ok=True)
    header = ["runtime", "precision", "srcc", "srcc_change", "mean_difference", "max_difference"]
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, "model", "images", *facts])
        for runtime, exactness, *figures in rows:
            values = [f"{value:.5f}" for value in figures]
            writer.writerow(
                [runtime, exactness, *values, model.card.name, len(expected), *facts.values()]
            )
            print(f"{runtime:10} {exactness:6}", *values)
    print(f"Written to {OUT}")


if __name__ == "__main__":
    main()
