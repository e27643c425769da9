"""CSV or Parquet -> a table of rated images.

Design choices:

* Nothing is repaired or dropped in silence. What cannot be used is refused with its line numbers.
* Every cell is text until the label column alone is read as numbers, so both kinds of file agree.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qfm_iqm.datasets.table import RatedTable, column_key, content_of, first_few
from qfm_iqm.errors import TableError

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
REFERENCE_COLUMNS = ("ref_name", "ref_img")


def read_table(path: Path | str, *, label: str = "mos", require_mos: bool = True) -> RatedTable:
    """Read a table of rated images from `.csv` (UTF-8, comma) or `.parquet`.

    The name column is `name` or one of `NAME_COLUMNS`. Contents are the column `content` as it is,
    else those of the reference images (`table.content_of`) in one of `REFERENCE_COLUMNS`. Every
    other column is kept as text. Spaces around cells are stripped; rows and trailing columns in
    which every cell is empty, which spreadsheets leave
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
    values = columns.pop(column_key(label), None)
    if values is None and require_mos:
        raise TableError(
            f"{path}: the label column '{label}' was asked for, but the columns are: {there}; "
            "say which one holds the labels."
        )
    reference_key = next((key for key in REFERENCE_COLUMNS if key in columns), None)
    contents = columns.pop("content", ())
    if reference_key is not None and not contents:
        contents = tuple(map(content_of, columns.pop(reference_key)))
    return RatedTable(
        names=names,
        mos=None if values is None else _numbers(path, label, values, places),
        contents=contents,
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

    header = lines[0][1]
    while not header[-1]:
        header.pop()
    width = len(header)
    wrong = [line for line, cells in lines[1:] if len(cells) < width or any(cells[width:])]
    if wrong:
        raise TableError(
            f"{path}: every row must have the header's {width} cells, but {len(wrong)} do not "
            f"({first_few(wrong, 'line')}); quote the cells that hold a comma."
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
    for column in table.schema:
        kind = column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise TableError(
                f"{path}: cells must be text or numbers, but the column '{column.name}' holds "
                f"{kind}; write the table without it."
            )
    columns = [
        ["" if cell is None else str(cell).strip() for cell in values.to_pylist()]
        for values in table.columns
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return list(table.schema.names), [f"row {n}" for n in range(1, len(rows) + 1)], rows


def _numbers(
    path: Path, label: str, values: Sequence[str], places: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The label column as finite numbers, or an error that lists the rows where it is not."""
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers)).tolist()
    if bad:
        shown = first_few([f"{places[i]}: '{values[i]}'" for i in bad])
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


def _unique_keys(header: Iterable[str]) -> list[str]:
    """Normalised column names, each once, so that no column hides another."""
    keys: list[str] = []
    for position, column in enumerate(header, start=1):
        key = base = column_key(column) or f"column_{position}"
        copy = 2
        while key in keys:
            key, copy = f"{base}_{copy}", copy + 1
        keys.append(key)
    return keys
