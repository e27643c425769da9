"""Whether a model gains and loses SRCC on BIQ2021 within its subsets or between them.

    python benchmarks/subset_errors.py --root BIQ2021 --cells CELLS.csv

For the packaged models, on the validation split: SRCC on all photos and within subsets; SRCC after
subtracting each subset's mean error; and SRCC of the subset's mean opinion alone, without the
photo. SRCC on photos of the training split shows how far a model has memorized them. Writes
benchmarks/results/subset_errors.csv. The recipes name the photos; the default's also names the
table of KADID-10k's opinions. QFM_BACKBONE_DIR is the folder of the public ViT-Tiny's weights.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from photos import RESULTS
from qfm_iqm import load_model
from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.evaluation.evaluate import score_rated
from qfm_iqm.metrics.correlation import srcc
from qfm_iqm.model.model import QualityModel
from qfm_iqm.training.data import rated_split, training_images
from qfm_iqm.training.recipe_file import read_recipe

OUT = RESULTS / "subset_errors.csv"
RECIPES = Path(__file__).parents[1] / "recipes"
MODELS = {"default": "default.toml", "vit-tiny": "vit_tiny.toml"}
LEARNED = 6  # scores every sixth training photo


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    options = parser.parse_args()
    root = options.root.resolve()
    own = {"default": {"augment.cells": str(options.cells.resolve())}}
    rows = []
    for name, recipe_name in MODELS.items():
        model = load_model(name)
        recipe = read_recipe(
            RECIPES / recipe_name, values={"data.root": str(root)} | own.get(name, {})
        )
        table, split = rated_split(recipe)
        learned = training_images(recipe, table, split)
        validation = table.select(split.indices(table)["validation"])
        for figure, value in figures(model, learned, validation, root):
            rows.append((name, figure, f"{value:.4f}", model.card.weights_sha256))
            print(f"{name:10} {figure:40} {value:8.4f}")
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("model", "figure", "value", "weights_sha256"), *rows])


def figures(
    model: QualityModel, learned: RatedTable, validation: RatedTable, root: Path
) -> Iterator[tuple[str, float]]:
    """The figures of one model, on training photos and on validation photos."""
    assert learned.mos is not None
    assert validation.mos is not None
    scores, opinions = scored(model, validation, root), validation.mos
    subsets, learned_subsets = (np.array(one.column("subset")) for one in (validation, learned))
    errors, means = np.zeros_like(scores), np.zeros_like(scores)
    within = []
    for subset in np.unique(subsets):
        own = subsets == subset
        within.append(srcc(scores[own], opinions[own]))
        errors[own] = (scores - opinions)[own].mean()
        means[own] = learned.mos[learned_subsets == subset].mean()
        yield f"mean error in {subset}", errors[own][0]
        yield f"SRCC in {subset}", within[-1]
    yield "SRCC, mean over subsets", float(np.mean(within))
    yield "SRCC", srcc(scores, opinions)
    yield "SRCC without the subsets' mean errors", srcc(scores - errors, opinions)
    yield "SRCC of the subset's mean opinion", srcc(means, opinions)
    some = np.arange(0, len(learned), LEARNED)
    yield (
        "SRCC on training photos",
        srcc(scored(model, learned.select(some), root), learned.mos[some]),
    )


def scored(model: QualityModel, table: RatedTable, root: Path) -> Doubles:
    """Scores of a table's photos, in the units of its labels."""
    return np.array([row.score for row in score_rated(model, table, root)])


if __name__ == "__main__":
    main()
