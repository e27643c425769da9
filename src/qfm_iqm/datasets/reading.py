"""Reads tables of rated images from text tables (CSV and similar), JSON lines or Parquet.

Design choices:

* Nothing is silently repaired or dropped. Unusable rows are refused with their line numbers.
* All cells are read as text and only the label column is parsed as numbers, so that all file
  formats give the same table.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.table import RatedTable, column_key, content_of, finite_numbers
from qfm_iqm.errors import TableError
from qfm_iqm.files import check_output, replacing
from qfm_iqm.text_tables import SUFFIXES, TextTable, read_text, read_text_table, write_csv

# The first of these in a table is its name column; the others are ordinary columns.
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


@dataclass(frozen=True)
class Cells:
    """A table of images with text cells.

    Attributes:
        source: the file.
        header: column names as in the file.
        columns: columns by normalized name.
        places: position of each row, for messages.
        text: the text table that the cells come from; None for other formats.
    """

    source: Path
    header: list[str]
    columns: dict[str, tuple[str, ...]]
    places: list[str]
    text: TextTable | None

    @property
    def form(self) -> str:
        """How the file was read, for the end of a message."""
        return f" ({self.text.form})" if self.text else ""

    def take_names(self, *first: str) -> tuple[str, ...]:
        """Removes and returns the column of image names: the first of `NAME_COLUMNS`.

        Args:
            first: names of columns to prefer over those.

        Raises:
            TableError: there is no such column.
        """
        key = next((key for key in (*first, *NAME_COLUMNS) if key in self.columns), None)
        if key is None:
            raise TableError(
                f"{self.source}: a table needs a column of image names "
                f"({', '.join(NAME_COLUMNS)}), but its columns are: {', '.join(self.header)}; "
                f"the first line must be a header{self.form}."
            )
        return self.columns.pop(key)

    def take_numbers(self, column: str) -> Sequence[str] | None:
        """Removes and returns a column of numbers, with decimal points; None if missing."""
        cells = self.columns.pop(column_key(column), None)
        return cells if cells is None or self.text is None else self.text.numbers(cells)

    def finite(self, column: str, values: Sequence[str]) -> Doubles:
        """The values of a column as finite numbers.

        Raises:
            TableError: some values are not finite numbers; the message names their lines.
        """
        return finite_numbers(f"{self.source}{self.form}", f"'{column}'", values, self.places)

    def lacks(self, column: str) -> TableError:
        """The error for a table without the requested column."""
        return TableError(
            f"{self.source}: there is no label column '{column}', only the columns "
            f"{', '.join(self.header)}; rename the column of the labels to "
            f"'{column}', or name it with --label if the command has that option{self.form}."
        )


def read_table(path: Path | str, *, label: str = "mos", require_mos: bool = True) -> RatedTable:
    """Reads a table of rated images from a text table (`text_tables`), `.jsonl` or `.parquet`.

    The name column is `name` or one of `NAME_COLUMNS`. Contents come from the column `content`, or
    else from the reference images (`table.content_of`) in one of `REFERENCE_COLUMNS`. Every other
    column is kept as text. Spaces around cells are stripped. Rows and trailing columns with only
    empty cells, which spreadsheets leave behind, are ignored. A column without a header is called
    `column_<position>`; a repeated header gets the suffix `_2`, `_3` ...

    Args:
        path: the file.
        label: name of the label column, for tables that call it `dmos` or `MOS_zscore`. Its values
            are not changed, whatever their direction.
        require_mos: refuse a table without labels; if False, `mos` of such a table is None. An
            existing label column must hold a number in every row in any case.

    Raises:
        TableError: the file is missing, of another format or damaged, has no rows, lacks a column,
            or has an unusable row.
    """
    cells = read_cells(Path(path))
    names = cells.take_names()
    values = cells.take_numbers(label)
    if values is None and require_mos:
        raise cells.lacks(label)
    columns = cells.columns
    reference_key = next((key for key in REFERENCE_COLUMNS if key in columns), None)
    contents = columns.pop("content", ())
    if reference_key is not None and not contents:
        contents = tuple(map(content_of, columns.pop(reference_key)))
    return RatedTable(
        names=names,
        mos=None if values is None else cells.finite(label, values),
        contents=contents,
        columns=columns,
        source=str(path),
    )


def read_cells(path: Path, *, strip: bool = True, may_be_empty: bool = False) -> Cells:
    """Reads the cells of a text table, JSON lines or a Parquet table.

    Args:
        path: the file; its extension determines the format.
        strip: strip spaces around cells.
        may_be_empty: accept a table without rows.

    Raises:
        TableError: the file is missing, of another format or damaged, or has no rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise TableError(f"{path} is a folder, not a table; give a CSV, JSONL or Parquet file.")
    if reader is None:
        raise TableError(
            f"{path} ends in '{path.suffix}'; give a file that ends in {', '.join(_READERS)}."
        )
    if not path.exists():
        raise TableError(f"There is no table {path}.")
    try:
        header, places, rows, text = reader(path, strip)
    except OSError as error:
        raise TableError(f"The table {path} cannot be read: {error}.") from error
    if not rows and not may_be_empty:
        raise TableError(f"{path}: the table has no rows.")
    cells = zip(*rows, strict=True) if rows else ((),) * len(header)
    columns = dict(zip(_unique_keys(header), cells, strict=True))
    return Cells(path, header, columns, places, text)


Read = tuple[list[str], list[str], list[list[str]], TextTable | None]


def _read_text(path: Path, strip: bool) -> Read:
    """Header, the position of each row for messages, the rows of cells, and the text table."""
    table = read_text_table(path, strip=strip)
    return table.header, [f"line {line}" for line in table.lines], table.rows, table


def _read_jsonl(path: Path, strip: bool) -> Read:
    """Like `_read_text`, from one object per line with columns as fields; nulls are empty cells."""
    text, _ = read_text(path)
    found = {f"line {n}": line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    objects = [_json_object(line, place, path) for place, line in found.items()]
    header = list(dict.fromkeys(name for values in objects for name in values))
    rows = [[_cell(values.get(name), strip) for name in header] for values in objects]
    return header, list(found), rows, None


def _json_object(line: str, place: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise TableError(f"{path}: {place} is not a JSON object.")
    return values


def _cell(value: object, strip: bool) -> str:
    text = "" if value is None else str(value)
    return text.strip(" ") if strip else text


def _read_parquet(path: Path, strip: bool) -> Read:
    """Like `_read_text`; nulls are empty cells."""
    # Imported here so that CSV tables do not wait for pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TableError(f"{path}: unreadable Parquet file ({reason}); write it again.") from error
    for column in table.schema:
        kind = column.type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise TableError(
                f"{path}: cells must be text or numbers, but the column '{column.name}' holds "
                f"{kind}; write the table without it."
            )
    columns = [[_cell(value, strip) for value in values.to_pylist()] for values in table.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return list(table.schema.names), [f"row {n}" for n in range(1, len(rows) + 1)], rows, None


def _unique_keys(header: Iterable[str]) -> list[str]:
    """Normalized column names, made unique."""
    keys: list[str] = []
    for position, column in enumerate(header, start=1):
        key = base = column_key(column) or f"column_{position}"
        copy = 2
        while key in keys:
            key, copy = f"{base}_{copy}", copy + 1
        keys.append(key)
    return keys


_READERS: dict[str, Callable[[Path, bool], Read]] = {
    **dict.fromkeys(SUFFIXES, _read_text),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}

COLUMNS = ("name", "mos", "std", "content", "distortion", "level", "split")


def write_table(table: RatedTable, path: Path) -> None:
    """Writes `COLUMNS` of a table; columns that it does not have are blank.

    Labels are written unchanged, in full precision.

    Args:
        table: a table with labels.
        path: file to write, ending in .csv or .parquet.

    Raises:
        TableError: the table has no labels, or the path has another extension or cannot be written.
    """
    if table.mos is None:
        raise TableError(f"{table.source} has no labels to write.")
    blank = ("",) * len(table)
    texts = {
        "name": table.names,
        "content": table.contents,
        **{key: table.columns.get(key, blank) for key in ("std", "distortion", "level", "split")},
    }
    check_output(path, *_WRITERS)
    _WRITERS[path.suffix.lower()](path, texts, table.mos.tolist())


def _write_csv(path: Path, texts: dict[str, tuple[str, ...]], labels: list[float]) -> None:
    columns = [labels if name == "mos" else texts[name] for name in COLUMNS]
    write_csv(path, COLUMNS, zip(*columns, strict=True))


def _write_parquet(path: Path, texts: dict[str, tuple[str, ...]], labels: list[float]) -> None:
    # Imported here so that CSV tables do not wait for pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: labels if name == "mos" else list(texts[name]) for name in COLUMNS}
    with replacing(path) as partial:
        pq.write_table(pa.table(arrays), partial)


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
