"""Reads score tables: those of `qfm score`, or any table of image names and scores."""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qfm_iqm.datasets.reading import Cells, read_cells
from qfm_iqm.datasets.table import column_key
from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import COLUMNS, SCHEMA, Column, ScoreRow
from qfm_iqm.text_tables import as_utf8

OWN_COLUMNS = ("path", "sha256", "status")
"""Columns that identify a table of `qfm score` or `qfm cull` of any version."""

Row = TypeVar("Row", bound=ScoreRow)

_LONGEST = 1 << 20  # most bytes of the first line that are read


@dataclass(frozen=True)
class ScoreTable:
    """Scores of images, as columns of equal length.

    Attributes:
        source: origin of the scores, for messages.
        columns: columns by name in `SCHEMA`, in that order; always with `path`, `score` and
            `error`. An image without a score has None as score and the reason in `error`.
    """

    source: str
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["path"])

    @property
    def models(self) -> list[str]:
        """Unique names of the models, in order of appearance."""
        return [name for name in dict.fromkeys(self.columns.get("model", [])) if name]

    @property
    def paths(self) -> list[str]:
        """The images' paths."""
        return self.columns["path"]

    @property
    def scores(self) -> list[float | None]:
        """The images' scores."""
        return self.columns["score"]


def table_of(rows: Iterable[ScoreRow], source: str) -> ScoreTable:
    """Converts score rows to a table.

    Args:
        rows: score rows.
        source: origin of the rows, for messages.
    """
    kept = list(rows)
    return ScoreTable(source, {name: [getattr(row, name) for row in kept] for name in COLUMNS})


def read_scores(path: Path, column: str = "score") -> ScoreTable:
    """Reads a score table: CSV (also as saved by spreadsheets), JSON lines or Parquet.

    Image names come from the column `path`, or else from the first of `NAME_COLUMNS`. Columns that
    `ScoreRow` does not have are ignored.

    Args:
        path: the file; its extension determines the format.
        column: column of the scores.

    Raises:
        TableError: the file is missing or has another format, has no column of names or scores, or
            a value of the wrong type.
    """
    return _table(read_cells(path, strip=False), column)


def read_rows(path: Path) -> list[ScoreRow]:
    """Reads a table of `qfm score`; see `read_rows_of`."""
    return read_rows_of(path, ScoreRow, SCHEMA)


def read_rows_of(path: Path, kind: type[Row], schema: Mapping[str, Column]) -> list[Row]:
    """Reads a table from `write_rows` and refuses any other, because jobs reuse its rows.

    Args:
        path: the file.
        kind: type of the rows.
        schema: columns of the table.

    Raises:
        TableError: it cannot be read, or its columns are not those of the schema.
    """
    cells = read_cells(path, strip=False)
    for some, others, has in ((schema, cells.header, "lacks"), (cells.header, schema, "also has")):
        if odd := [name for name in some if name not in others]:
            raise TableError(
                f"'{path}' was not written by this command of this version: it {has} the column "
                f"'{odd[0]}'{cells.form}."
            )
    columns = _table(cells, schema=schema).columns
    rows = zip(*columns.values(), strict=True)
    return [kind(**dict(zip(columns, row, strict=True))) for row in rows]


def check_replaceable(path: Path, columns: Collection[str]) -> None:
    """Refuses, before any work, to replace a table that this package did not write.

    Args:
        path: file to write. An empty file or a path without a file is accepted.
        columns: columns that every table of the kind has.

    Raises:
        TableError: the existing table lacks these columns.
    """
    if path.is_file() and path.stat().st_size and not _header(path).issuperset(columns):
        raise TableError(
            f"'{path}' exists and is not a table that qfm wrote (it lacks the columns "
            f"{', '.join(columns)}): choose another name, or remove it first."
        )


def _header(path: Path) -> set[str]:
    """The column names of a table, from its first bytes; empty if it is not a table."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return set(pq.read_schema(path).names)
        with path.open("rb") as file:
            line, _ = as_utf8(file.readline(_LONGEST))
        if path.suffix.lower() == ".jsonl":
            return set(json.loads(line))
    except (OSError, ValueError, TypeError):  # includes pyarrow's errors
        return set()
    return set(re.split(r"[,;\t|]", line.decode("utf-8", "replace").strip().replace('"', "")))


def _table(
    cells: Cells, column: str = "score", schema: Mapping[str, Column] = SCHEMA
) -> ScoreTable:
    """Parses cells as a score table, with a reason for every missing score."""
    key = column_key(column)
    if key not in cells.columns:
        raise TableError(
            f"{cells.source}: there is no score column '{column}', only the columns "
            f"{', '.join(cells.header)}; rename the column of the scores to "
            f"'{column}', or name it with --column if the command has that option{cells.form}."
        )
    given = cells.columns[key]
    found = cells.columns | {"path": cells.take_names("path"), "score": given}
    table = {
        name: _values(cells, known, found[name]) for name, known in schema.items() if name in found
    }
    if not all(table["path"]):
        raise TableError(f"The score table {cells.source} has a row without a path.")
    errors = table.get("error", [""] * len(given))
    table["error"] = [
        (error or _no_score(cell)) if score is None else ""
        for score, error, cell in zip(table["score"], errors, given, strict=True)
    ]
    return ScoreTable(str(cells.source), {name: table[name] for name in schema if name in table})


def _values(cells: Cells, column: Column, texts: Sequence[str]) -> list[Any]:
    """The cells of a column as values of its type; TableError if a cell has another type."""
    name, kind = column.name, column.kind
    if cells.text is not None and kind in ("int", "float"):
        texts = cells.text.numbers(texts)
    values = []
    for place, text in zip(cells.places, texts, strict=True):
        try:
            values.append(_PARSERS[kind](text))
        except (KeyError, ValueError):
            wanted = "True or False" if kind == "bool" else "a number"
            raise TableError(
                f"{cells.source}: {place} has '{text}' in the column '{name}', not {wanted}"
                f"{cells.form}."
            ) from None
    return values


def _float(text: str) -> float | None:
    """A finite number; None for an empty cell, NaN or infinity."""
    if "_" in text:  # Python parses 1_000 as a number, but no table means that
        raise ValueError(text)
    number = float(text or "nan")
    return number if math.isfinite(number) else None


def _int(text: str) -> int | None:
    number = _float(text)
    return None if number is None else int(number)


def _bool(text: str) -> bool | None:
    """True or False, as written by Python and spreadsheets."""
    return {"": None, "true": True, "1": True, "false": False, "0": False}[text.lower()]


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": _int,
    "float": _float,
    "bool": _bool,
}


def _no_score(cell: str) -> str:
    """Why a cell of the score column is not a score."""
    return f"Its score is {cell}, which is not a number." if cell else "There is no score."
