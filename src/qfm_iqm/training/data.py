"""From a recipe's tables to what is trained on, selected on and tested on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.catalogue import find_dataset
from qfm_iqm.datasets.folds import choose_split
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import Split, split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.distill.features import TeacherTokens, standardise
from qfm_iqm.distill.pseudo_labels import read_pseudo_labels
from qfm_iqm.distill.teacher import of_whole_images
from qfm_iqm.errors import RecipeError, TableError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.training.batches import Sample
from qfm_iqm.training.recipe import Recipe

_FEWEST_JUDGED = 5  # images: the logistic curve of the evaluation has four parameters


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is judged by.

    Attributes:
        samples: of the training part and of the pseudo-labelled tables, and pairs of all their
            images; then the unrated ones.
        supervised: how many of the samples have a label: people's, or a pseudo-label of a table.
        validation: rated images that select the epoch; None where none are kept for that.
        test: rated images for the one test.
        split: which image is in which part.
        root: folder that names are relative to.
        label_mean: mean of the training part's labels.
        label_std: their standard deviation.
        left_out: pseudo-labelled rows left out: validation or test hold their content or image.
    """

    samples: list[Sample]
    supervised: int
    validation: RatedTable | None
    test: RatedTable
    split: Split
    root: Path
    label_mean: float
    label_std: float
    left_out: int

    @property
    def held_out(self) -> dict[str, RatedTable]:
        """The splits that are scored and never trained on, by name."""
        tables = {"validation": self.validation, "test": self.test}
        return {split: table for split, table in tables.items() if table is not None}


@dataclass(frozen=True)
class UnratedImage:
    """An image that only a teacher has rated.

    Attributes:
        path: of the image.
        content: its content, in the names of the rated table.
        score: of the teacher, in label units.
    """

    path: Path
    content: str
    score: float


def load_data(recipe: Recipe, unrated: Sequence[UnratedImage] = ()) -> TrainingData:
    """Reads the tables, splits the rated images, and finds the files.

    Args:
        recipe: checked.
        unrated: images of Distilled Label Expansion, free of leaks.

    Raises:
        TableError: a table, a file or a label that cannot be used.
    """
    data = recipe.data
    table, split = rated_split(recipe)
    if data.group is not None:
        table.group(data.group)
    parts = split.indices(table)
    train = training_part(recipe, table, split)
    selecting = data.validation > 0 or parts["validation"].size > 0
    validation = table.select(parts["validation"]) if selecting else None
    test = table.select(parts["test"])
    labels = _labels(train, "train", fewest=2)
    if validation is not None:
        _labels(validation, "validation", fewest=_FEWEST_JUDGED)
    _labels(test, "test", fewest=_FEWEST_JUDGED)
    content_ids: dict[str, int] = {}
    samples = []
    table.paths(data.root)  # every image of every part must be there
    if data.human_labels:
        people = [
            Sample(path, mos, content_ids.setdefault(content, len(content_ids)))
            for path, mos, content in zip(
                train.paths(data.root), labels, train.contents, strict=True
            )
        ]
        samples += people * recipe.train.crops_per_image
    # By name too: a table without contents calls each image a content of its own.
    judged = [test] if validation is None else [validation, test]
    held = {key for part in judged for key in (*part.contents, *part.names)}
    left_out = 0
    hints: list[TeacherTokens] = []
    for path in data.pseudo_labels:
        more, leaks = _pseudo_labelled(recipe, path, held, content_ids, hints)
        samples += more
        left_out += leaks
    if hints:
        standardise(hints)
    if not samples:
        raise TableError(
            f"There is nothing to train on: all {left_out} pseudo-labels are of contents that "
            "validation or test hold."
        )
    photos = dict.fromkeys((sample.path, sample.content) for sample in samples)
    pairs = [Sample(path, math.nan, content, pair=True) for path, content in photos]
    samples += pairs * recipe.train.pairs_per_image
    supervised = len(samples)
    samples += [
        Sample(
            image.path,
            image.score,
            content_ids.setdefault(image.content, len(content_ids)),
            supervised=False,
        )
        for image in unrated
    ]
    return TrainingData(
        samples=samples,
        supervised=supervised,
        validation=validation,
        test=test,
        split=split,
        root=data.root,
        label_mean=float(labels.mean()),
        label_std=float(labels.std()),
        left_out=left_out,
    )


def rated_split(recipe: Recipe) -> tuple[RatedTable, Split]:
    """The rated images of a recipe, and which of them are in which part.

    Raises:
        TableError: a table or label file that cannot be used, or a rule that it does not allow.
    """
    table = rated_table(recipe)
    return table, split_of(recipe, table)


def rated_table(recipe: Recipe) -> RatedTable:
    """The rated images of a recipe.

    Raises:
        TableError: a table or label file that cannot be used.
    """
    data = recipe.data
    if data.dataset is not None:
        return find_dataset(data.dataset).load(data.root)
    assert data.labels is not None
    return read_table(recipe.table(data.labels))


def split_of(recipe: Recipe, table: RatedTable) -> Split:
    """Which of a recipe's rated images are in which part.

    Raises:
        TableError: a rule that the table does not allow.
    """
    data = recipe.data
    return choose_split(
        table,
        data.split,
        test=data.test,
        validation=data.validation,
        fold=data.split_seed,
        file=recipe.split_text,
    )


def training_part(recipe: Recipe, table: RatedTable, split: Split) -> RatedTable:
    """The images to learn from: of `data.train_share`, whole contents at a time.

    Their order is drawn as a split's is.

    Raises:
        TableError: the share is of no image, or of all.
    """
    train = table.select(split.indices(table)["train"])
    share = recipe.data.train_share
    if share == 1:
        return train
    try:
        inner = split_by_content(train, test=share, validation=0, seed=recipe.data.split_seed)
    except TableError:
        raise TableError(
            f"A share of {100 * share:g} % cannot be taken of the {len(train)} training images of "
            f"{table.source}: none or all of their {len(set(train.contents))} contents would be it."
        ) from None
    return train.select(inner.indices(train)["test"])


def _labels(table: RatedTable, part: str, *, fewest: int) -> np.ndarray:
    """The labels of a part; refused before any training if nothing can be learned or judged."""
    if table.mos is None:
        raise TableError(f"{table.source} has no labels.")
    if len(table) < fewest:
        raise TableError(
            f"The {part} part of {table.source} holds {len(table)} images, and needs at least "
            f"{fewest}: give more images, or change data.test and data.validation."
        )
    if table.mos.min() == table.mos.max():
        raise TableError(
            f"All {len(table)} labels of the {part} part of {table.source} are equal "
            f"({table.mos[0]:g}): there is nothing to tell apart."
        )
    return table.mos


def _pseudo_labelled(
    recipe: Recipe,
    path: Path,
    held: set[str],
    content_ids: dict[str, int],
    hints: list[TeacherTokens],
) -> tuple[list[Sample], int]:
    """Reads crops scored by a teacher; gives the samples, and how many were left out.

    Crops smaller than the model's teach whole images. The teacher's tokens, where the recipe learns
    from them, are added to `hints`.
    """
    pseudo = read_pseudo_labels(recipe.table(path))
    whole = pseudo.preprocessing.crop < recipe.network.crop
    _check_crops(recipe, path, pseudo.preprocessing, whole=whole)
    rows = of_whole_images(pseudo.rows) if whole else pseudo.rows
    tokens = pseudo.tokens if recipe.method.w_tokens and not whole else None
    if tokens is not None:
        hints.append(tokens)
    kept = [(place, row) for place, row in enumerate(rows) if not row.shows(held)]
    names = tuple(dict.fromkeys(row.name for _, row in kept))
    images = RatedTable(names, source=str(path)).paths(recipe.data.root) if names else []
    files = dict(zip(names, images, strict=True))
    samples = []
    for place, row in kept:
        content = content_ids.setdefault(row.content, len(content_ids))
        if not whole:
            hint = None if tokens is None else (tokens, place)
            samples.append(Sample(files[row.name], row.score, content, row, hint))
        elif row.distortion:
            shown = (row.distortion, row.level)
            samples.append(Sample(files[row.name], row.score, content, degraded=shown))
        else:  # at other places each time, as photos that people rated
            sample = Sample(files[row.name], row.score, content)
            samples += [sample] * recipe.train.crops_per_image
    return samples, len(rows) - len(kept)


def _check_crops(recipe: Recipe, path: Path, made: Preprocessing, *, whole: bool) -> None:
    """Refuses a teacher's crops that say nothing about those which are trained on."""
    wanted, crop = recipe.network.preprocessing, recipe.train.crop
    same = wanted.model_copy(
        update={"extra_scales": made.extra_scales} | ({"crop": made.crop} if whole else {})
    )
    if made != same:  # a teacher's crops are of its first size alone
        raise RecipeError(
            f"The pseudo-labels {path} were made with {made!r}, and the recipe trains with "
            f"{wanted!r}: make them again, or change the recipe's network."
        )
    if not whole and crop not in (None, made.crop):
        raise RecipeError(
            f"The pseudo-labels {path} are of crops of {made.crop} pixels, and train.crop = {crop} "
            "asks for others: leave it out, or learn from pseudo-labels of smaller crops."
        )
