"""Folds: which images train, select and test in a numbered repetition of an experiment.

    content   by content and number (`splits.split_by_content` with the number as its seed): ten
              folds are numbers 0 to 9, of any dataset, the same on every machine
    official  the authors' own splits; where they name no validation split, it is taken out of
              their training split by the rule of `content`
    file      a split that somebody wrote as text (`Split.to_text`)

Other people's folds are read from ARNIQA's arrays and LIQE's lists (`read_arniqa`, `read_liqe`),
and written as such a text.
"""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from qfm_iqm.datasets.splits import SPLITS, Split, official_split, split_by_content, split_from
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError, reason_of
from qfm_iqm.files import write_whole
from qfm_iqm.text_tables import write_csv

SplitKind = Literal["content", "official", "file"]
_FOREIGN = {"train": "train", "validation": "val", "test": "test"}  # in other people's file names


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
        raise TableError(f"The split {path} cannot be read: {reason_of(error)}.") from error


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


def count_arniqa(folder: Path) -> int:
    """How many of ARNIQA's folds a folder holds.

    Raises:
        TableError: no array that can be read.
    """
    return len(_array(folder / "train.npy"))


def read_arniqa(folder: Path, fold: int, table: RatedTable, order: Path | None = None) -> Split:
    """One of ARNIQA's folds: arrays (folds, n) of row numbers, filled up with -1.

    Of a dataset with one official split it has arrays (n,), which are fold 0.

    Args:
        folder: that holds `train.npy`, `test.npy` and perhaps `val.npy`.
        fold: row of the arrays.
        table: rated images; the numbers are its rows, unless `order` lists the images.
        order: ARNIQA's own list (`LIVE.txt`, `CSIQ.txt`), whose column `dis_img_path` names the
            image of each number after the dataset's folder.

    Raises:
        TableError: a file that is missing or no such array, or a number out of range.
    """
    names = table.names if order is None else _names_in_order(order, table)
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, file in _FOREIGN.items():
        path = folder / f"{file}.npy"
        if split == "validation" and not path.is_file():
            continue
        rows = _array_row(path, fold)
        if rows and max(rows) >= len(names):
            raise TableError(
                f"{path} names row {max(rows)}, but there are {len(names)} images: it is of "
                f"another dataset than {table.source}."
            )
        listed[split] = [names[row] for row in rows]
    return split_from(listed, f"ARNIQA's fold {fold} out of {folder.name}/*.npy")


def read_liqe(folder: Path, table: RatedTable, prefix: str = "") -> Split:
    """One of LIQE's folds: lists `*_train*.txt`, `*_val*.txt`, `*_test*.txt`, an image a line.

    The first cell of a line, before a tab, names the image relative to the dataset's folder.

    Args:
        folder: of one fold, such as `splits2/1`.
        table: rated images.
        prefix: of the lists' names, where a folder holds those of several datasets.

    Raises:
        TableError: a list that is missing or there twice, or an image that the table lacks.
    """
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    finder = _Finder(table)
    for split, word in _FOREIGN.items():
        found = sorted(folder.glob(f"{prefix}*_{word}*.txt"))
        if split == "validation" and not found:
            continue
        if len(found) != 1:
            raise TableError(
                f"{folder} must hold one list {prefix}*_{word}*.txt, but it holds {len(found)}."
            )
        try:
            lines = found[0].read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TableError(f"{found[0]} cannot be read as text ({error}).") from error
        images = [line.split("\t")[0].strip() for line in lines if line.strip()]
        listed[split] = finder.names(images, found[0])
    return split_from(listed, f"LIQE's fold {folder.name}")


def _array_row(path: Path, fold: int) -> list[int]:
    """One row of an array of integers, without what fills it up."""
    array = _array(path)
    if not 0 <= fold < len(array):
        raise TableError(f"{path} holds {len(array)} folds, and none with the number {fold}.")
    return [row for row in array[fold].tolist() if row >= 0]


def _array(path: Path) -> npt.NDArray[np.integer]:
    """An array of integers (folds, n); one of a single fold may be (n,)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TableError(f"{path} is no array that can be read ({error}).") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "iu":
        raise TableError(
            f"{path} must be an array (folds, images) or (images,) of integers, but its shape is "
            f"{array.shape} and its type {array.dtype}."
        )
    return np.atleast_2d(array)


def _names_in_order(order: Path, table: RatedTable) -> list[str]:
    """The table's names in the order of ARNIQA's own list."""
    try:
        with order.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{order} cannot be read as a table ({error}).") from error
    if not rows or "dis_img_path" not in rows[0]:
        raise TableError(f"{order} has no column dis_img_path.")
    listed = [str(PurePosixPath(*PurePosixPath(row["dis_img_path"]).parts[1:])) for row in rows]
    return _Finder(table).names(listed, order)


class _Finder:
    """Finds a table's names whatever their letter case, by path, else by an unambiguous file."""

    def __init__(self, table: RatedTable) -> None:
        self._source = table.source
        self._paths = {name.casefold(): name for name in table.names}
        files: dict[str, list[str]] = {}
        for name in table.names:
            files.setdefault(PurePosixPath(name).name.casefold(), []).append(name)
        self._files = {file: names[0] for file, names in files.items() if len(names) == 1}

    def names(self, listed: Sequence[str], path: Path) -> list[str]:
        """The table's names of what a list names."""
        found = [
            self._paths.get(name.casefold()) or self._files.get(PurePosixPath(name).name.casefold())
            for name in listed
        ]
        lost = [name for name, one in zip(listed, found, strict=True) if one is None]
        if lost:
            raise TableError(
                f"{path} names {len(lost)} images that {self._source} does not hold "
                f"({first_few(lost)})."
            )
        return [one for one in found if one is not None]
