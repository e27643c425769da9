"""From a recipe's tables to what is trained on, selected on and tested on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import Split, split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import RecipeError, TableError
from qfm_iqm.image.cropping import Preprocessing
from qfm_iqm.method.distillation import read_pseudo_labels
from qfm_iqm.training.batches import Sample
from qfm_iqm.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is judged by.

    Attributes:
        samples: of the training part, and of the pseudo-labelled tables.
        validation: rated images that select the epoch.
        test: rated images for the one test.
        split: which image is in which part.
        root: folder that names are relative to.
        label_mean: mean of the training part's labels.
        label_std: their standard deviation.
        left_out: pseudo-labelled rows left out because validation or test hold their content.
    """

    samples: list[Sample]
    validation: RatedTable
    test: RatedTable
    split: Split
    root: Path
    label_mean: float
    label_std: float
    left_out: int


def load_data(recipe: Recipe) -> TrainingData:
    """Reads the tables, splits the rated images by content, and finds the files.

    Raises:
        TableError: a table, a file or a label that cannot be used.
    """
    data = recipe.data
    table = read_table(recipe.table(data.labels))
    split = split_by_content(
        table, test=data.test, validation=data.validation, seed=data.split_seed
    )
    if data.group is not None:
        table.group(data.group)
    parts = split.indices(table)
    train, validation, test = (
        table.select(parts[part]) for part in ("train", "validation", "test")
    )
    labels = _labels(train)
    if labels.std() == 0:
        raise TableError(f"All {len(labels)} labels of {table.source} to train on are equal.")
    content_ids: dict[str, int] = {}
    samples = []
    paths = table.paths(data.root)  # also checks that every image of every part is there
    if data.human_labels:
        rated = [
            Sample(paths[i], mos, content_ids.setdefault(content, len(content_ids)))
            for i, mos, content in zip(parts["train"], labels, train.contents, strict=True)
        ]
        samples += rated * recipe.train.crops_per_image
    held = {*validation.contents, *test.contents}
    left_out = 0
    preprocessing = Preprocessing(
        crop=recipe.network.crop, shorter_side=recipe.network.shorter_side
    )
    for path in data.pseudo_labels:
        more, leaks = _pseudo_labelled(recipe, path, held, content_ids, preprocessing)
        samples += more
        left_out += leaks
    return TrainingData(
        samples=samples,
        validation=validation,
        test=test,
        split=split,
        root=data.root,
        label_mean=float(labels.mean()),
        label_std=float(labels.std()),
        left_out=left_out,
    )


def groups_of(table: RatedTable, column: str | None) -> Mapping[str, np.ndarray] | None:
    """Indices of each group of a table, or None without a column."""
    return None if column is None else table.group(column)


def _labels(table: RatedTable) -> np.ndarray:
    if table.mos is None:
        raise TableError(f"{table.source} has no labels.")
    return table.mos


def _pseudo_labelled(
    recipe: Recipe,
    path: Path,
    held: set[str],
    content_ids: dict[str, int],
    preprocessing: Preprocessing,
) -> tuple[list[Sample], int]:
    """Reads crops scored by a teacher; gives the samples, and how many were left out."""
    pseudo = read_pseudo_labels(recipe.table(path))
    if pseudo.preprocessing != preprocessing:
        raise RecipeError(
            f"The pseudo-labels {path} were made with {pseudo.preprocessing!r}, and the recipe "
            f"trains with {preprocessing!r}: make them again, or change the recipe's network."
        )
    samples = []
    left_out = 0
    for row in pseudo.rows:
        if row.content in held:
            left_out += 1
            continue
        content = content_ids.setdefault(row.content, len(content_ids))
        samples.append(Sample(recipe.data.root / row.name, row.score, content, row))
    missing = sorted({sample.path for sample in samples if not sample.path.is_file()})
    if missing:
        raise TableError(
            f"{len(missing)} images of {path} are not under {recipe.data.root}: "
            f"{', '.join(str(name) for name in missing[:3])}."
        )
    return samples, left_out
