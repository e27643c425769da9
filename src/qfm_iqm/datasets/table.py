"""A table of rated images: names, labels, contents, other columns, and the image files.

Design choices:

* Nothing is silently repaired or dropped. Unusable rows are refused by number.
* Column names are compared in lower case with underscores for spaces: `Image Name` is `image_name`.
* Labels are not changed. Their direction is a property of the dataset, not of the table.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles, Indices
from qfm_iqm.errors import TableError, counted
from qfm_iqm.image.formats import SUFFIXES


@dataclass(frozen=True, eq=False)
class RatedTable:
    """Rated images, one per row, stored by column.

    Attributes:
        names: unique image names as in the table, relative to the image folder.
        mos: read-only labels (N,) float64 in the dataset's units and direction; None for a table
            without labels.
        contents: content of each image; images of the same content must be in the same split. If
            empty, each image's name is its content.
        columns: every other column as text (subset, split, std ...), by normalized name.
        source: path of the table, for messages.

    Raises:
        TableError: there are no rows, columns have unequal lengths, names are blank or duplicate,
            or a label is not a finite number.
    """

    names: tuple[str, ...]
    mos: Doubles | None = None
    contents: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = "table"

    def __post_init__(self) -> None:
        if not self.names:
            raise TableError(f"{self.source}: the table has no rows.")
        if not self.contents:
            object.__setattr__(self, "contents", self.names)
        if self.mos is not None:
            mos = np.array(self.mos, dtype=np.float64)
            if mos.ndim != 1:
                raise TableError(
                    f"{self.source}: labels must be a 1-D array, but their shape is {mos.shape}."
                )
            mos.flags.writeable = False
            object.__setattr__(self, "mos", mos)
        self._check()

    def _check(self) -> None:
        lengths = {"contents": len(self.contents)} | {k: len(v) for k, v in self.columns.items()}
        if self.mos is not None:
            lengths["mos"] = self.mos.size
        wrong = {column: length for column, length in lengths.items() if length != len(self)}
        if wrong:
            raise TableError(
                f"{self.source}: every column must hold {len(self)} values, one per name, "
                f"but these differ: {wrong}."
            )
        for column, values in (("name", self.names), ("content", self.contents)):
            blank = [row for row, value in enumerate(values, start=1) if not value.strip()]
            if blank:
                raise TableError(
                    f"{self.source}: the {column} is blank in {len(blank)} rows "
                    f"({first_few(blank, 'row')}, not counting titles); fill it in or remove these "
                    "rows."
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise TableError(
                f"{self.source}: {counted(len(twice), 'name is', 'names are')} in more than "
                f"one row ({first_few(twice)}); keep one row per image."
            )
        if self.mos is not None and not np.isfinite(self.mos).all():
            bad = (np.flatnonzero(~np.isfinite(self.mos)) + 1).tolist()
            raise TableError(
                f"{self.source}: {len(bad)} labels are NaN or infinite ({first_few(bad, 'row')}); "
                "give each image a number or remove these rows."
            )

    def __len__(self) -> int:
        return len(self.names)

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "RatedTable":
        """The rows at `indices`, in that order.

        Raises:
            TableError: there are no indices, or they are out of range, repeated or not integers.
        """
        rows = np.asarray(indices)
        if rows.size == 0 or rows.dtype.kind not in "iu":
            raise TableError(
                f"{self.source}: rows are selected by at least one integer index, "
                f"but {rows.size} values of type {rows.dtype} were given."
            )
        if rows.min() < 0 or rows.max() >= len(self):
            raise TableError(
                f"{self.source}: the indices run from {rows.min()} to {rows.max()}, "
                f"but the table's rows are 0 to {len(self) - 1}."
            )
        order: list[int] = rows.tolist()
        return RatedTable(
            names=tuple(self.names[i] for i in order),
            mos=None if self.mos is None else self.mos[order],
            contents=tuple(self.contents[i] for i in order),
            columns={key: tuple(column[i] for i in order) for key, column in self.columns.items()},
            source=self.source,
        )

    def column(self, name: str) -> tuple[str, ...]:
        """A column as text, by its name in any letter case; "content" gives the contents.

        Raises:
            TableError: there is no such column; the message lists the columns.
        """
        if column_key(name) == "content":
            return self.contents
        try:
            return self.columns[column_key(name)]
        except KeyError:
            others = f"its other columns are {', '.join(self.columns)}"
            raise TableError(
                f"{self.source} has no column '{name}'; besides name, label and content, "
                f"{others if self.columns else 'it has no columns'}."
            ) from None

    def group(self, column: str) -> dict[str, Indices]:
        """Row indices for each value of a column; values are sorted, indices ascending.

        Raises:
            TableError: there is no such column, or it has a blank cell: reports would lose a group
                without a name.
        """
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(self.column(column)):
            rows.setdefault(value, []).append(row)
        if "" in rows:
            raise TableError(
                f"{self.source}: grouping by '{column}' needs a value in every row, but "
                f"{len(rows[''])} are blank ({first_few([row + 1 for row in rows['']], 'row')}); "
                "fill them in."
            )
        return {value: np.array(rows[value], dtype=np.intp) for value in sorted(rows)}

    def find(self, root: Path) -> list[Path | None]:
        """The file of every image below `root`, found as in `paths`; None if there is none."""
        listings: dict[Path, dict[str, list[str]]] = {}
        found = (find_below(Path(root), name, listings) for name in self.names)
        return [path if path is not None and path.is_file() else None for path in found]

    def paths(self, root: Path) -> list[Path]:
        """The file of every image below `root`, in the table's order.

        If there is no file with the exact name, a file that differs only in letter case matches;
        the official tables of several datasets need this. Absolute names are used unchanged.

        Raises:
            TableError: the folder does not exist, names match no file, or two names match the same
                file.
        """
        root = Path(root)
        if not root.is_dir():
            raise TableError(
                f"There is no image folder {root}; "
                f"give the folder that the names of {self.source} are relative to."
            )
        located = list(zip(self.names, self.find(root), strict=True))
        missing = [name for name, path in located if path is None]
        if missing:
            raise TableError(
                f"{len(missing)} of the {len(self)} names of {self.source} match no file "
                f"in {root}, or several that differ only in letter case ({first_few(missing)}); "
                "check the folder, or remove these rows."
            )
        paths = [path for _, path in located if path is not None]
        counts = Counter(path for _, path in located)
        if twice := [name for name, path in located if counts[path] > 1]:
            raise TableError(
                f"{len(twice)} names of {self.source} mean the same file in {root} as another one "
                f"({first_few(twice)}); keep one row per image."
            )
        return paths


def find_below(
    root: Path, name: str, listings: dict[Path, dict[str, list[str]]] | None = None
) -> Path | None:
    """Finds a file or folder below `root`, or else the only one that differs in letter case.

    Args:
        root: folder to look in.
        name: path relative to `root`.
        listings: cache of folder listings; filled by this function.
    """
    if _is_there(root / name):
        return root / name
    listings = {} if listings is None else listings
    folder = root
    for part in Path(name).parts:
        if folder not in listings:
            listings[folder] = _listing(folder)
        entries = listings[folder].get(part.casefold(), [])
        if part not in entries and len(entries) != 1:
            return None
        folder = folder / (part if part in entries else entries[0])
    return folder


def _listing(folder: Path) -> dict[str, list[str]]:
    """Entries of a folder by case-folded name; empty if the folder cannot be listed."""
    entries: dict[str, list[str]] = {}
    try:
        for entry in folder.iterdir():
            entries.setdefault(entry.name.casefold(), []).append(entry.name)
    except OSError:
        return {}
    return entries


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long for the file system
        return False


def content_of(reference: str) -> str:
    """The content of a reference image, independent of the spelling of its file name.

    `I25.BMP`, `i25.bmp`, `refimgs/i25.bmp` and `I25` are all `i25`.
    """
    file = PurePosixPath(reference)
    return (file.stem if file.suffix.lower() in SUFFIXES else file.name).casefold()


def column_key(column: str) -> str:
    """A column's normalized name: lower case, underscores for spaces."""
    return "_".join(column.lower().split())


def first_few(items: Sequence[object], word: str = "") -> str:
    """Up to three items for a message, after a word that describes them."""
    shown = ", ".join(str(item) for item in items[:3])
    return f"{word} {shown}".strip() + (", ..." if len(items) > 3 else "")


def finite_numbers(
    source: object, what: str, values: Sequence[object] | Doubles, places: Sequence[str] = ()
) -> Doubles:
    """Parses values as finite numbers (N,).

    Args:
        source: the file, for messages.
        what: description of the values, for messages.
        values: numbers or texts.
        places: position of each value, for messages; row numbers by default.

    Raises:
        TableError: some are not finite numbers; the message names the first ones.
    """
    found = np.array([_number(value) for value in values], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(found)).tolist()
    if bad:
        shown = [f"{places[i] if places else f'row {i + 1}'}: '{values[i]}'" for i in bad]
        raise TableError(
            f"{source}: {len(bad)} of {counted(len(found), 'value')} of {what} "
            f"{'is not a finite number' if len(bad) == 1 else 'are not finite numbers'} "
            f"({first_few(shown)}); give numbers, or remove these rows."
        )
    return found


def _number(value: Any) -> float:
    # Python parses 1_000 as a number, but no table means that.
    try:
        return float("nan" if isinstance(value, str) and "_" in value else value)
    except (TypeError, ValueError):
        return float("nan")
