"""How fast small backbones are beside how well they learn from random weights.

    qfm bench ablate recipes/backbones.toml --set data.root=DIR --results benchmarks/results
    python benchmarks/backbones.py

Takes the accuracies from `backbones_runs.csv`, times the models in `runs/backbones`, decoder
included, in turns and each by its best round, and writes benchmarks/results/backbones.csv:
parameters, megabytes in half precision, crops per second by torch and by ONNX Runtime, SRCC on
validation.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from photos import RESULTS, machine, seconds
from qfm_iqm import load_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes.export import export
from qfm_iqm.scoring.runtimes.export_folder import load_exported
from qfm_iqm.training.ablation import read_runs

OUT = RESULTS / "backbones.csv"
RUNS = Path("runs") / "backbones"
CROPS = 32


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    learned = {row["variant"]: row for row in read_runs(RESULTS / "backbones_runs.csv")}
    with tempfile.TemporaryDirectory() as place:
        networks = {
            name: load_model(RUNS / row["setting"] / f"seed{row['seed']}" / name / "model")
            for name, row in learned.items()
        }
        work: dict[tuple[str, str], Callable[[], object]] = {}
        for name, model in networks.items():
            work[name, "torch"] = by_torch(model)
            work[name, "onnx"] = by_onnx(model, Path(place) / name)
        rates = dict.fromkeys(work, 0.0)
        for _ in range(options.rounds):
            for key, call in work.items():
                rates[key] = max(rates[key], CROPS / seconds(call, 1))
    facts = machine()
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["backbone", "parameters_m", "megabytes_fp16", "torch_crops_per_second",
             "onnx_crops_per_second", "srcc", "srcc_subset_mean", *facts]
        )  # fmt: skip
        for name, model in networks.items():
            state = model.network.state_dict().values()
            parameters = sum(value.numel() for value in state) / 1e6
            speeds = [f"{rates[name, runtime]:.1f}" for runtime in ("torch", "onnx")]
            found = [learned[name][f"srcc:{part}"][:6] for part in ("whole", "subset_mean")]
            row = [name, f"{parameters:.2f}", f"{2 * parameters:.1f}", *speeds, *found]
            writer.writerow([*row, *facts.values()])
            print(*row)
    print(f"Written to {OUT}")


def by_torch(model: QualityModel) -> Callable[[], object]:
    """One batch through the network."""
    crops = torch.rand(CROPS, 3, model.card.network.crop, model.card.network.crop)

    def call() -> object:
        with torch.inference_mode():
            return model.network(crops)

    return call


def by_onnx(model: QualityModel, folder: Path) -> Callable[[], object]:
    """The same by ONNX Runtime."""
    export(model, folder, "onnx")
    runtime, size = load_exported(folder), model.card.network.crop
    crops = list(np.random.default_rng(0).random((CROPS, 3, size, size), np.float32))
    return lambda: runtime.run(crops)


if __name__ == "__main__":
    main()
