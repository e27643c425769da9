"""Folds: which images train, select and test in a numbered repetition of an experiment.

content   by content and number (`splits.split_by_content` with the number as its seed): ten
folds are numbers 0 to 9, of any dataset, the same on every machine
official  the authors' own splits; where they name no validation split, it is taken out of
their training split by the rule of `content`
file      a split that somebody wrote as text (`Split.to_text`)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from qfm_iqm.datasets.splits import SPLITS, Split, official_split, split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.files import write_whole
from qfm_iqm.text_tables import write_csv

SplitKind = Literal["content", "official", "file"]


def choose_split(
    table: RatedTable,
    kind: SplitKind,
    *,
    test: float,
    validation: float,
    fold: int,
    file: Path | None = None,
) -> Split:
    """The split of a table by one of the rules above.

    Args:
        table: rated images.
        kind: of rule.
        test: share of all images, for `content`.
        validation: share of all images for `content`, of the training split for `official`.
        fold: number of the repetition.
        file: for `file`.

    Raises:
        TableError: the rule cannot be followed on this table.
    """
    if kind == "content":
        return split_by_content(table, test=test, validation=validation, seed=fold)
    if kind == "official":
        return official_fold(table, validation=validation, fold=fold)
    if file is None:
        raise TableError("A split from a file was asked for, but no file is named.")
    return read_split(file)


def official_fold(table: RatedTable, *, validation: float, fold: int) -> Split:
    """The authors' splits, with a validation split out of training where they name none.

    Raises:
        TableError: the table has no official split, or it holds no test split.
    """
    split = official_split(table)
    if not split.test:
        raise TableError(f"{table.source}: the official table has no test split.")
    if split.validation:
        return split
    rest = table.select(split.indices(table)["train"])
    inner = split_by_content(rest, test=0, validation=validation, seed=fold)
    rule = f"{split.rule}; its training part by {inner.rule}"
    return Split(inner.train, inner.validation, split.test, rule)


def read_split(path: Path) -> Split:
    """A split written as text.

    Raises:
        TableError: the file cannot be read, or is no split.
    """
    try:
        return Split.from_text(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"The split {path} cannot be read: {error}.") from error


def write_folds(folds: Sequence[Split], folder: Path) -> list[Path]:
    """Writes `fold0.txt` ... and `folds.csv`: number, SHA-256, images of each split, rule.

    Raises:
        TableError: the folder cannot be written to.
    """
    paths = [folder / f"fold{number}.txt" for number in range(len(folds))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, fold in zip(paths, folds, strict=True):
            write_whole(fold.to_text(), path)
        rows = (
            (number, fold.sha256, *(len(fold.names(split)) for split in SPLITS), fold.rule)
            for number, fold in enumerate(folds)
        )
        write_csv(folder / "folds.csv", ("fold", "sha256", *SPLITS, "rule"), rows)
    except OSError as error:
        raise TableError(f"The folds cannot be written to {folder}: {error.strerror}.") from error
    return paths
