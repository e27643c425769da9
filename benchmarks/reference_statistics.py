"""Tests reference statistics: coverage of intervals, false alarms, and detection.

    python benchmarks/reference_statistics.py --root BIQ2021
        [--model default] [--kodak DIR]

The model's reference statistics come from photos held out for them. Here they are tested on the
unseen test split: share of MOS inside the interval, whole and per subset, mean width of the
interval, and share of photos found out of distribution. This share follows for text pages, flat
colors, noise, charts and pixel art (`benchmarks/drawn.py`), for the Kodak photos, and for these
degraded at level 3. Writes benchmarks/results/reference_statistics.csv.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from drawn import KINDS
from qfm_iqm import load_model, read_image
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.evaluation.evaluate import recorded_split
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import distort_tensor, resize_and_pad
from qfm_iqm.metrics.calibration import coverage
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.scorer import Scorer

RESULTS = Path(__file__).parent / "results" / "reference_statistics.csv"
DRAWN = 40  # of each kind
Row = tuple[str, str, int, float]


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("--photos", type=int, help="number of random test photos; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    rows = [*on_test_split(model, arguments.root, arguments.photos), *on_drawn(model)]
    if arguments.kodak:
        rows += on_kodak(model, arguments.kodak)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["images", "figure", "n", "value"])
        for name, figure, n, value in rows:
            writer.writerow([name, figure, n, round(value, 4)])
            print(f"{name}, {figure}: {value:.4f} ({n})")


def on_test_split(model: QualityModel, root: Path, photos: int | None) -> Iterator[Row]:
    """Coverage, width and false alarms on photos unseen by statistics and model."""
    table = recorded_split(model.card, read_table(root / "labelled.csv"), "test")
    if photos is not None:
        table = table.select(np.random.default_rng(0).permutation(len(table))[:photos])
    assert table.mos is not None
    rows = list(Scorer(model).score_paths(table.paths(root)))
    low, high = (np.array([getattr(row, end) for row in rows]) for end in ("mos_low", "mos_high"))
    shown = np.array([model.card.label.show(mos) for mos in table.mos])
    groups = np.array(table.column("subset"))
    for name in ("whole", *sorted(set(groups))):
        chosen = groups == name if name != "whole" else np.ones(len(rows), dtype=bool)
        held, width = coverage(shown[chosen], low[chosen], high[chosen])
        yield f"test, {name}", "coverage", int(chosen.sum()), held
        yield f"test, {name}", "width", int(chosen.sum()), width
        alarms = float(
            np.mean([row.out_of_distribution for row in np.array(rows, dtype=object)[chosen]])
        )
        yield f"test, {name}", "out_of_distribution", int(chosen.sum()), alarms


def on_drawn(model: QualityModel) -> Iterator[Row]:
    """Share out of distribution of images that are not photos."""
    for kind, draw in KINDS.items():
        images = (read_image(draw(np.random.default_rng(seed))) for seed in range(DRAWN))
        yield kind, "out_of_distribution", DRAWN, share_out_of_distribution(model, images)


def on_kodak(model: QualityModel, folder: Path) -> Iterator[Row]:
    """The same for real photos of another source, and for degraded ones."""
    photos = [read_image(path) for path in sorted(folder.glob("*.png"))]
    yield "Kodak", "out_of_distribution", len(photos), share_out_of_distribution(model, photos)
    for kind in LEVELS:
        degraded = (distort_tensor(photo, kind, 3) for photo in photos)
        yield (
            f"Kodak, {kind} 3",
            "out_of_distribution",
            len(photos),
            share_out_of_distribution(model, degraded),
        )


def share_out_of_distribution(model: QualityModel, images: Iterable[torch.Tensor]) -> float:
    """Share of images that a model's card finds out of distribution, from pixels alone."""
    assert model.card.reference_statistics is not None
    detector = model.card.reference_statistics.ood_detector
    assert detector is not None
    found = (model.statistics(resize_and_pad(image, model.card.preprocessing)) for image in images)
    return float(
        np.mean([detector.distance(one) > detector.limit for one in found if one is not None])
    )


if __name__ == "__main__":
    main()
