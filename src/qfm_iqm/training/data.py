"""Reads a recipe's tables into training, validation and test data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from qfm_iqm.datasets.catalogue import find_dataset
from qfm_iqm.datasets.folds import choose_split
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import Split, split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import RecipeError, TableError, counted
from qfm_iqm.files import text_hash
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.training.batches import Sample
from qfm_iqm.training.pseudo_labels import read_pseudo_labels
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.stages import files_hash

_UNRATED, _DEGRADED = -1, -2  # group ids of images that people did not rate
_FEWEST_EVALUATED = 5  # images: the logistic curve of the evaluation has four parameters


@dataclass(frozen=True)
class TrainingData:
    """The data of a training run.

    Attributes:
        samples: samples of the training split and of the pseudo-label tables; then pairs; then
            unlabeled samples.
        supervised: number of first samples with a label: people's, or a pseudo-label of a table.
        validation: rated images that select the epoch; None if there are none.
        test: rated images for the final test.
        train: rated images of the training split that are trained on.
        reference: rated images only for the reference statistics; None if there are none.
        split: the split of every image.
        root: folder that names are relative to.
        label_mean: mean of the training split's labels.
        label_std: their standard deviation.
    """

    samples: list[Sample]
    supervised: int
    validation: RatedTable | None
    test: RatedTable
    train: RatedTable
    reference: RatedTable | None
    split: Split
    root: Path
    label_mean: float
    label_std: float

    @property
    def held_out(self) -> dict[str, RatedTable]:
        """The splits that are scored but never trained on, by name."""
        tables = {"validation": self.validation, "test": self.test, "reference": self.reference}
        return {split: table for split, table in tables.items() if table is not None}

    @cached_property
    def pairs(self) -> int:
        """Number of samples that are pairs of a photo and its degraded copy."""
        return sum(sample.paired for sample in self.samples)

    @property
    def unlabeled(self) -> int:
        """Number of samples with only a teacher's score."""
        return len(self.samples) - self.supervised - self.pairs

    def labels_hash(self) -> str:
        """SHA-256 of the names, contents and labels of all rated images."""
        tables = [self.train, *self.held_out.values()]
        rows = [(t.names, t.contents, None if t.mos is None else t.mos.tolist()) for t in tables]
        return text_hash(repr(rows))

    @cached_property
    def images_hash(self) -> str:
        """One SHA-256 for the files of all rated images."""
        tables = (self.train, *self.held_out.values())
        return files_hash([path for table in tables for path in table.paths(self.root)])


@dataclass(frozen=True)
class UnlabeledImage:
    """An image that only a teacher has rated.

    Attributes:
        path: path of the image.
        content: name of its content, as in the rated table.
        score: the teacher's score, in label units.
    """

    path: Path
    content: str
    score: float


def load_data(
    recipe: Recipe,
    unlabeled: Sequence[UnlabeledImage] = (),
    pseudo_labels: Iterable[Path] = (),
) -> TrainingData:
    """Reads the tables, splits the rated images, and finds the files.

    Args:
        recipe: the validated recipe.
        unlabeled: images for Distilled Label Expansion, free of leaks.
        pseudo_labels: tables of crops that a teacher scored, from images free of leaks.

    Raises:
        TableError: a table, a file or a label cannot be used.
    """
    data = recipe.data
    table, split = rated_split(recipe)
    if data.group is not None:
        table.group(data.group)
    rows = split.indices(table)
    train = training_images(recipe, table, split)
    reference = reference_images(recipe, table, split)
    selecting = data.validation > 0 or rows["validation"].size > 0
    validation = table.select(rows["validation"]) if selecting else None
    test = table.select(rows["test"])
    if data.dataset is None:  # LIVE's labels exceed its scale
        _within_scale(table, data.label)
    labels = _labels(train, "train", fewest=2)
    if validation is not None:
        _labels(validation, "validation", fewest=_FEWEST_EVALUATED)
    _labels(test, "test", fewest=_FEWEST_EVALUATED)
    content_ids: dict[str, int] = {}
    table.paths(data.root)  # every image of every split must exist
    groups = _groups(train, data.group)
    people = [
        Sample(path, mos, content_ids.setdefault(content, len(content_ids)), group=group)
        for path, mos, content, group in zip(
            train.paths(data.root), labels, train.contents, groups, strict=True
        )
    ]
    samples = people * recipe.train.crops_per_image
    degraded = _degraded(recipe, people)
    in_pairs = recipe.augment is not None and recipe.augment.pairs > 0
    if in_pairs and not degraded:
        raise TableError(
            f"augment.pairs has no effect: no training image of {table.source} has a label of "
            "augment.good or more."
        )
    if not in_pairs:
        samples += degraded
    for path in pseudo_labels:
        samples += _pseudo_labelled(recipe, path, content_ids)
    supervised = len(samples)
    if in_pairs:
        samples += [replace(one, paired=True) for one in degraded]
    expansion = [
        Sample(
            image.path,
            image.score,
            content_ids.setdefault(image.content, len(content_ids)),
            supervised=False,
            group=_UNRATED,
        )
        for image in unlabeled
    ]
    samples += expansion
    if recipe.distillation.with_rated:
        samples += [replace(one, supervised=False, group=_UNRATED) for one in people]
    if not recipe.distillation.per_step:  # teachers know photos, not degraded copies
        samples += _degraded(recipe, expansion)
    return TrainingData(
        samples=samples,
        supervised=supervised,
        validation=validation,
        test=test,
        train=train,
        reference=reference,
        split=split,
        root=data.root,
        label_mean=float(labels.mean()),
        label_std=float(labels.std()),
    )


def rated_split(recipe: Recipe) -> tuple[RatedTable, Split]:
    """The rated images of a recipe, and their split.

    Raises:
        TableError: a table or label file cannot be used, or does not allow the split rule.
    """
    table = rated_table(recipe)
    return table, split_of(recipe, table)


def rated_table(recipe: Recipe) -> RatedTable:
    """The rated images of a recipe.

    Raises:
        TableError: a table or label file cannot be used.
    """
    data = recipe.data
    if data.dataset is not None:
        return find_dataset(data.dataset).load(data.root)
    assert data.labels is not None
    return read_table(recipe.table(data.labels))


def split_of(recipe: Recipe, table: RatedTable) -> Split:
    """The split of a recipe's rated images.

    Raises:
        TableError: the table does not allow the split rule.
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


def training_images(recipe: Recipe, table: RatedTable, split: Split) -> RatedTable:
    """The training images: the training split without those kept for the reference statistics.

    `data.train_share` keeps a share of these, chosen by whole contents as a split is.

    Raises:
        TableError: a share holds no image, or all.
    """
    train = table.select(split.indices(table)["train"])
    if recipe.data.reference:
        _, train = _share(train, recipe.data.reference, recipe.data.split_seed)
    if recipe.data.train_share < 1:
        train, _ = _share(train, recipe.data.train_share, recipe.data.split_seed)
    return train


def reference_images(recipe: Recipe, table: RatedTable, split: Split) -> RatedTable | None:
    """The images of the training split kept for the reference statistics; None if there are none.

    Raises:
        TableError: the share holds no image, or all.
    """
    if not recipe.data.reference:
        return None
    train = table.select(split.indices(table)["train"])
    return _share(train, recipe.data.reference, recipe.data.split_seed)[0]


def _share(table: RatedTable, share: float, seed: int) -> tuple[RatedTable, RatedTable]:
    """A share of a table's images, by whole contents, and the other images."""
    try:
        inner = split_by_content(table, test=share, validation=0, seed=seed).indices(table)
    except TableError:
        raise TableError(
            f"A share of {100 * share:g} % of the {len(table)} training images of {table.source} "
            f"would be none or all of their {len(set(table.contents))} contents."
        ) from None
    return table.select(inner["test"]), table.select(inner["train"])


def _labels(table: RatedTable, split: str, *, fewest: int) -> np.ndarray:
    """The labels of a split; TableError if they are missing, too few or all equal."""
    if table.mos is None:
        raise TableError(f"{table.source} has no labels.")
    if len(table) < fewest:
        raise TableError(
            f"The {split} split of {table.source} holds {len(table)} images, but needs at least "
            f"{fewest}: give more images, or change data.test and data.validation."
        )
    if table.mos.min() == table.mos.max():
        raise TableError(
            f"All {len(table)} labels of the {split} split of {table.source} are equal "
            f"({table.mos[0]:g}): there is nothing to learn or to compare."
        )
    return table.mos


def _within_scale(table: RatedTable, label: LabelUnits) -> None:
    """Refuses labels beyond the ends of the recipe's scale; TableError."""
    if table.mos is None or label.minimum is None or label.maximum is None:
        return
    beyond = np.flatnonzero((table.mos < label.minimum) | (table.mos > label.maximum))
    if beyond.size:
        first = beyond[0]
        raise TableError(
            f"{table.source}: {counted(beyond.size, 'label lies', 'labels lie')} beyond the scale "
            f"of {label.minimum:g} to {label.maximum:g} in data.label, such as "
            f"{table.mos[first]:g} of {table.names[first]}: set data.label.minimum and "
            "data.label.maximum, or correct the table."
        )


def _groups(table: RatedTable, column: str | None) -> list[int]:
    """Ids of the subsets that a column names; a single id without a column."""
    names = table.column(column) if column is not None else ("",) * len(table)
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    return [known[name] for name in names]


def _degraded(recipe: Recipe, samples: Sequence[Sample]) -> list[Sample]:
    """Degraded samples of the images rated `augment.good` or better."""
    augment = recipe.augment
    if augment is None or augment.cells is None:
        return []
    good = [sample for sample in samples if sample.label >= augment.good]
    return [replace(sample, degraded=True, group=_DEGRADED) for sample in good]


def _pseudo_labelled(recipe: Recipe, path: Path, content_ids: dict[str, int]) -> list[Sample]:
    """Crops that a teacher scored, as samples."""
    rows, made = read_pseudo_labels(path)
    wanted = recipe.network.preprocessing
    # A teacher's crops come only from its first size.
    if made != wanted.model_copy(update={"extra_scales": made.extra_scales}):
        raise RecipeError(
            f"The pseudo-labels {path} were made with {made!r}, but the recipe trains with "
            f"{wanted!r}: take a teacher with these crops, or change the recipe's network."
        )
    names = tuple(dict.fromkeys(row.name for row in rows))
    images = RatedTable(names, source=str(path)).paths(recipe.data.root)
    files = dict(zip(names, images, strict=True))
    return [
        Sample(
            files[row.name],
            row.score,
            content_ids.setdefault(row.content, len(content_ids)),
            (row.top, row.left),
        )
        for row in rows
    ]
