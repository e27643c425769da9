"""Folds: the numbered train, validation and test splits of an experiment.

    content   by content (`splits.split_by_content` with the fold's number as seed): ten folds are
              the numbers 0 to 9, for any dataset, the same on every machine
    official  the authors' splits; if they name no validation split, it is taken from their
              training split by the `content` rule
    file      a split from a text file (`Split.to_text`)

`read_arniqa` and `read_liqe` read folds from ARNIQA's arrays and LIQE's lists.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from qfm_iqm.datasets.splits import SPLITS, Split, official_split, split_by_content, split_from
from qfm_iqm.datasets.table import RatedTable, first_few
from qfm_iqm.errors import TableError, reason_of
from qfm_iqm.files import write_whole, writing
from qfm_iqm.text_tables import read_dicts, write_csv

SplitKind = Literal["content", "official", "file"]
_FOREIGN = {"train": "train", "validation": "val", "test": "test"}  # in ARNIQA's and LIQE's files


def choose_split(
    table: RatedTable,
    kind: SplitKind,
    *,
    test: float,
    validation: float,
    fold: int,
    file: Path | None = None,
) -> Split:
    """Splits a table by one of the rules above.

    Args:
        table: rated images.
        kind: the rule.
        test: share of all images for the test split, for `content`.
        validation: share of all images for `content`, or of the training split for `official`.
        fold: number of the fold.
        file: path of the split, for `file`.

    Raises:
        TableError: the rule cannot be applied to this table.
    """
    if kind == "content":
        return split_by_content(table, test=test, validation=validation, seed=fold)
    if kind == "official":
        return official_fold(table, validation=validation, fold=fold)
    if file is None:
        raise TableError("A split from a file needs the name of the file.")
    return read_split(file)


def official_fold(table: RatedTable, *, validation: float, fold: int) -> Split:
    """The authors' splits; without a validation split, one is taken from the training split.

    Raises:
        TableError: the table has no official split, or that has no test split.
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
    """Reads a split from a text file.

    Raises:
        TableError: the file cannot be read or is not a split.
    """
    try:
        return Split.from_text(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"The split {path} cannot be read: {reason_of(error)}.") from error


def write_folds(folds: Sequence[Split], folder: Path) -> list[Path]:
    """Writes `fold0.txt` ... and `folds.csv` (number, SHA-256, size of each split, rule).

    Raises:
        TableError: the folder cannot be written to.
    """
    paths = [folder / f"fold{number}.txt" for number in range(len(folds))]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, fold in zip(paths, folds, strict=True):
        write_whole(fold.to_text(), path)
    rows = (
        (number, fold.sha256, *(len(fold.names(split)) for split in SPLITS), fold.rule)
        for number, fold in enumerate(folds)
    )
    write_csv(folder / "folds.csv", ("fold", "sha256", *SPLITS, "rule"), rows)
    return paths


def count_arniqa(folder: Path) -> int:
    """Number of ARNIQA's folds in a folder.

    Raises:
        TableError: the array is missing or unreadable.
    """
    return len(_array(folder / "train.npy"))


def read_arniqa(folder: Path, fold: int, table: RatedTable, order: Path | None = None) -> Split:
    """Reads one of ARNIQA's folds from arrays (folds, n) of row numbers, padded with -1.

    For a dataset with one official split the arrays are (n,), which is fold 0.

    Args:
        folder: folder with `train.npy`, `test.npy` and optionally `val.npy`.
        fold: row of the arrays.
        table: rated images; the numbers are its rows, unless `order` is given.
        order: ARNIQA's list (`LIVE.txt`, `CSIQ.txt`), whose column `dis_img_path` holds the image
            of each number, with the dataset's folder in front.

    Raises:
        TableError: a file is missing or no such array, or a number is out of range.
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
                f"{path} names row {max(rows)}, but there are {len(names)} images: it belongs "
                f"to another dataset than {table.source}."
            )
        listed[split] = [names[row] for row in rows]
    return split_from(listed, f"ARNIQA's fold {fold} out of {folder.name}/*.npy")


def read_liqe(folder: Path, table: RatedTable, prefix: str = "") -> Split:
    """Reads one of LIQE's folds: `*_train*.txt`, `*_val*.txt`, `*_test*.txt`, an image per line.

    The first cell of a line, before a tab, is the image's path relative to the dataset's folder.

    Args:
        folder: folder of one fold, such as `splits2/1`.
        table: rated images.
        prefix: prefix of the lists' names, if the folder holds lists of several datasets.

    Raises:
        TableError: a list is missing or ambiguous, or an image is not in the table.
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
    """One row of an array of integers, without its padding."""
    array = _array(path)
    if not 0 <= fold < len(array):
        raise TableError(f"{path} holds {len(array)} folds, but no fold {fold}.")
    return [row for row in array[fold].tolist() if row >= 0]


def _array(path: Path) -> npt.NDArray[np.integer]:
    """Reads an array of integers (folds, n); that of a single fold may be (n,)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TableError(f"{path} is not a readable array ({error}).") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "iu":
        raise TableError(
            f"{path} must be an array (folds, images) or (images,) of integers, but its shape is "
            f"{array.shape} and its type {array.dtype}."
        )
    return np.atleast_2d(array)


def _names_in_order(order: Path, table: RatedTable) -> list[str]:
    """The table's names in the order of ARNIQA's list."""
    rows = read_dicts(order, "dis_img_path")
    listed = [str(PurePosixPath(*PurePosixPath(row["dis_img_path"]).parts[1:])) for row in rows]
    return _Finder(table).names(listed, order)


class _Finder:
    """Finds a table's names in any letter case, by path or else by unambiguous file name."""

    def __init__(self, table: RatedTable) -> None:
        self._source = table.source
        self._paths = {name.casefold(): name for name in table.names}
        files: dict[str, list[str]] = {}
        for name in table.names:
            files.setdefault(PurePosixPath(name).name.casefold(), []).append(name)
        self._files = {file: names[0] for file, names in files.items() if len(names) == 1}

    def names(self, listed: Sequence[str], path: Path) -> list[str]:
        """The table's names of the listed images."""
        found = [
            self._paths.get(name.casefold()) or self._files.get(PurePosixPath(name).name.casefold())
            for name in listed
        ]
        lost = [name for name, one in zip(listed, found, strict=True) if one is None]
        if lost:
            raise TableError(
                f"{path} names {len(lost)} images that are not in {self._source} "
                f"({first_few(lost)})."
            )
        return [one for one in found if one is not None]
