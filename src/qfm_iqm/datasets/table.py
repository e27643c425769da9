"""A table of rated images, from CSV or Parquet: names, labels, contents and whatever else it holds.

Design choices:

* Nothing is repaired or dropped in silence. What cannot be used is refused with its line numbers.
* Column names are compared in lower case with underscores for spaces: `Image Name` is `image_name`.
* Labels are kept as they are. Whether high is good is a fact of the dataset, not of the table.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import TableError

Indices = npt.NDArray[np.intp]

# The first of these that a table has is its column; the others stay ordinary columns.
NAME_COLUMNS = (
    "name",
    "image_name",
    "img_name",
    "image",
    "filename",
    "path",
    "dist_name",
    "dist_img",
)
CONTENT_COLUMNS = ("content", "ref_name", "ref_img")


@dataclass(frozen=True, eq=False)
class RatedTable:
    """Rated images, one per row, held by column.

    Attributes:
        names: image names as the table spells them, relative to the image folder; unique.
        mos: labels (N,) float64 in the dataset's own units and direction, read-only; None for a
            table without labels.
        contents: what each image shows; images of one content must stay in one part of a split.
            Left empty it becomes the names: each image is its own content.
        columns: every other column as text (subset, split, std ...), by its normalised name.
        source: the path the table came from, for messages.

    Raises:
        TableError: no rows, columns of unequal length, blank or duplicate names, or a label that
            is not a finite number.
    """

    names: tuple[str, ...]
    mos: npt.NDArray[np.float64] | None = None
    contents: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = "table"

    def __post_init__(self) -> None:
        if not self.names:
            raise TableError(f"{self.source}: a table of images was asked for, but it has no rows.")
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
                    f"({_first(blank, 'row')}); fill it in or take these rows out."
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise TableError(
                f"{self.source}: {len(twice)} names stand in more than one row ({_first(twice)}); "
                "leave one row per image."
            )
        if self.mos is not None and not np.isfinite(self.mos).all():
            bad = (np.flatnonzero(~np.isfinite(self.mos)) + 1).tolist()
            raise TableError(
                f"{self.source}: {len(bad)} labels are NaN or infinite ({_first(bad, 'row')}); "
                "give each image a number or take these rows out."
            )

    def __len__(self) -> int:
        return len(self.names)

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "RatedTable":
        """The rows at `indices`, in that order.

        Raises:
            TableError: no index, an index out of 0 .. N-1, a repeated one, or not integers.
        """
        rows = np.asarray(indices)
        if rows.size == 0 or rows.dtype.kind not in "iu":
            raise TableError(
                f"{self.source}: rows are selected by at least one integer index, "
                f"but {rows.size} values of type {rows.dtype} came."
            )
        if rows.min() < 0 or rows.max() >= len(self):
            raise TableError(
                f"{self.source}: an index between {rows.min()} and {rows.max()} was asked for, "
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
        """The column called `name` (any letter case) as text.

        Raises:
            TableError: no such column; the message lists those there are.
        """
        try:
            return self.columns[_key(name)]
        except KeyError:
            there = ", ".join(self.columns) or "none"
            raise TableError(
                f"{self.source}: the column '{name}' was asked for, "
                f"but beside name, label and content the table has: {there}."
            ) from None

    def group(self, column: str) -> dict[str, Indices]:
        """Row indices of each value of a column, values sorted, indices ascending.

        Raises:
            TableError: no such column, or a blank cell in it: a group without a name would be
                lost in every report.
        """
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(self.column(column)):
            rows.setdefault(value, []).append(row)
        if "" in rows:
            raise TableError(
                f"{self.source}: grouping by '{column}' needs a value in every row, but "
                f"{len(rows[''])} are blank ({_first([row + 1 for row in rows['']], 'row')}); "
                "fill them in."
            )
        return {value: np.array(rows[value], dtype=np.intp) for value in sorted(rows)}

    def paths(self, root: Path) -> list[Path]:
        """The file of every image below `root`, in the table's order.

        A name whose exact file is missing matches a file that differs only in letter case, as
        the official tables of several datasets need. An absolute name is taken as it is.

        Raises:
            TableError: no such folder, names that match no file, or two names for one file.
        """
        root = Path(root)
        if not root.is_dir():
            raise TableError(
                f"The image folder {root} was asked for, but there is no such folder; "
                f"give the folder that the names of {self.source} are relative to."
            )
        listings: dict[Path, dict[str, list[str]]] = {}
        located = [(name, _locate(root, name, listings)) for name in self.names]
        missing = [name for name, path in located if path is None]
        if missing:
            raise TableError(
                f"{len(missing)} of the {len(self)} names of {self.source} match no file "
                f"in {root}, or several that differ only in letter case ({_first(missing)}); "
                "check the folder, or take these rows out."
            )
        paths = [path for _, path in located if path is not None]
        if len(set(paths)) < len(paths):
            raise TableError(
                f"{len(paths) - len(set(paths))} names of {self.source} differ from another name "
                f"only in letter case and mean the same file in {root}; leave one row per image."
            )
        return paths


def read_table(path: Path | str, *, label: str = "mos", require_mos: bool = True) -> RatedTable:
    """Read a table of rated images from `.csv` (UTF-8, comma) or `.parquet`.

    The name column is `name` or one of `NAME_COLUMNS`; the content column, where there is one,
    one of `CONTENT_COLUMNS`; every other column is kept as text. Spaces around cells are
    stripped; rows and trailing columns in which every cell is empty, which spreadsheets leave
    behind, are no part of the table. A column without a header is called `column_<position>`,
    and a repeated header gets `_2`, `_3` ...

    Args:
        path: the file.
        label: the column that holds the label, for tables that call it `dmos` or `MOS_zscore`.
            Its values are kept as they are, whatever their direction.
        require_mos: refuse a table without labels; if false such a table has `mos` None. A label
            column that is there must hold a number in every row either way.

    Raises:
        TableError: the file is missing, not a table of these kinds or damaged, has no rows, lacks
            a column, or holds a row that cannot be used.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if path.is_dir():
        raise TableError(
            f"A table was asked for, but {path} is a folder; give a CSV or Parquet file."
        )
    if reader is None:
        raise TableError(
            f"A table was asked for, but {path} ends in '{path.suffix}'; "
            "give a file that ends in .csv or .parquet."
        )
    if not path.exists():
        raise TableError(f"The table {path} was asked for, but there is no such file.")
    try:
        header, places, rows = reader(path)
    except OSError as error:
        raise TableError(f"The table {path} cannot be read: {error}.") from error
    if not rows:
        raise TableError(f"{path}: a table of images was asked for, but it has no rows.")

    keys = _unique_keys(header)
    columns = dict(zip(keys, zip(*rows, strict=True), strict=True))
    there = ", ".join(header)
    name_key = next((key for key in NAME_COLUMNS if key in columns), None)
    if name_key is None:
        raise TableError(
            f"{path}: a table needs a column of image names ({', '.join(NAME_COLUMNS)}), "
            f"but its columns are: {there}; "
            "the first line must be a header, and commas part the cells."
        )
    names = columns.pop(name_key)
    values = columns.pop(_key(label), None)
    if values is None and require_mos:
        raise TableError(
            f"{path}: the label column '{label}' was asked for, but the columns are: {there}; "
            "say which one holds the labels."
        )
    content_key = next((key for key in CONTENT_COLUMNS if key in columns), None)
    return RatedTable(
        names=names,
        mos=None if values is None else _numbers(path, label, values, places),
        contents=() if content_key is None else columns.pop(content_key),
        columns=columns,
        source=str(path),
    )


def _read_csv(path: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """Header, the place of each row for messages, and rows of stripped cells."""
    lines: list[tuple[int, list[str]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for raw in reader:
                cells = [cell.strip() for cell in raw]
                if any(cells):
                    lines.append((reader.line_num, cells))
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: a table in UTF-8 was asked for, but byte {error.start} is not UTF-8; "
            "save the file as 'CSV UTF-8'."
        ) from error
    except csv.Error as error:
        raise TableError(
            f"{path}: line {reader.line_num} is no proper CSV ({error}); correct its quotes."
        ) from error
    if not lines:
        raise TableError(f"{path}: a table of images was asked for, but the file is empty.")

    header = _without_trailing_blanks(lines[0][1])
    width = len(header)
    wrong = [line for line, cells in lines[1:] if len(cells) < width or any(cells[width:])]
    if wrong:
        raise TableError(
            f"{path}: every row must have the header's {width} cells, but {len(wrong)} do not "
            f"({_first(wrong, 'line')}); quote the cells that hold a comma."
        )
    return header, [f"line {line}" for line, _ in lines[1:]], [c[:width] for _, c in lines[1:]]


def _read_parquet(path: Path) -> tuple[list[str], list[str], list[list[str]]]:
    """As `_read_csv`; nulls are empty cells."""
    # Here, not above: a table in CSV must not wait for pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TableError(f"{path}: no readable Parquet file ({reason}); write it again.") from error
    columns: list[list[str]] = []
    for column in table.schema:
        kind = column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise TableError(
                f"{path}: cells must be text or numbers, but the column '{column.name}' holds "
                f"{kind}; write the table without it."
            )
    for values in table.columns:
        columns.append(["" if cell is None else str(cell).strip() for cell in values.to_pylist()])
    rows = [list(row) for row in zip(*columns, strict=True)]
    return list(table.schema.names), [f"row {n}" for n in range(1, len(rows) + 1)], rows


def _numbers(
    path: Path, label: str, values: Sequence[str], places: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The label column as finite numbers, or an error that lists the rows where it is not."""
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers)).tolist()
    if bad:
        shown = _first([f"{places[i]}: '{values[i]}'" for i in bad])
        raise TableError(
            f"{path}: the label '{label}' must be a finite number, but {len(bad)} rows hold "
            f"something else ({shown}); correct them or take them out."
        )
    return numbers


def _number(text: str) -> float:
    # Python would read 1_000 as a number; no table means that.
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")


def _key(column: str) -> str:
    return "_".join(column.lower().split())


def _unique_keys(header: Iterable[str]) -> list[str]:
    """Normalised column names, each once, so that no column hides another."""
    keys: list[str] = []
    for position, column in enumerate(header, start=1):
        key = base = _key(column) or f"column_{position}"
        copy = 2
        while key in keys:
            key, copy = f"{base}_{copy}", copy + 1
        keys.append(key)
    return keys


def _without_trailing_blanks(cells: list[str]) -> list[str]:
    width = max(position for position, cell in enumerate(cells, start=1) if cell)
    return cells[:width]


def _locate(root: Path, name: str, listings: dict[Path, dict[str, list[str]]]) -> Path | None:
    """The file called `name` below `root`, else the only one that differs in letter case."""
    exact = root / name
    if _is_file(exact):
        return exact
    folder = root
    for part in Path(name).parts:
        if folder not in listings:
            listings[folder] = _listing(folder)
        entries = listings[folder].get(part.casefold(), [])
        if part in entries:
            folder = folder / part
        elif len(entries) == 1:
            folder = folder / entries[0]
        else:
            return None
    return folder if _is_file(folder) else None


def _listing(folder: Path) -> dict[str, list[str]]:
    """Entries of a folder by their name without letter case; empty where it cannot be listed."""
    entries: dict[str, list[str]] = {}
    try:
        for entry in folder.iterdir():
            entries.setdefault(entry.name.casefold(), []).append(entry.name)
    except OSError:
        return {}
    return entries


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system is no file either
        return False


def _first(items: Sequence[object], word: str = "") -> str:
    shown = ", ".join(str(item) for item in items[:3])
    return f"{word} {shown}".strip() + (", ..." if len(items) > 3 else "")
