"""Score tables read back: what `qfm score` wrote, or any table of image names and scores."""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qfm_iqm.datasets.reading import ENDINGS, Cells, read_cells
from qfm_iqm.datasets.table import column_key
from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import COLUMNS, SCHEMA, Column, ScoreRow
from qfm_iqm.text_tables import as_utf8

OWN_COLUMNS = ("path", "sha256", "status")
"""Columns by which a table of `qfm score` or `qfm cull`, of any version, is known."""

_LONGEST = 1 << 20  # bytes of a first line that are looked at


@dataclass(frozen=True)
class ScoreTable:
    """Scores of images, as columns of equal length.

    Attributes:
        source: where they come from, for people.
        columns: by name out of `SCHEMA`, in that order; `path`, `score` and `error` are always
            there. An image without a score has None there and its reason in `error`.
    """

    source: str
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["path"])

    @property
    def models(self) -> list[str]:
        """Names of the models that scored, each once, in order of appearance."""
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
    """Score rows, as the engine yields them, as a table.

    Args:
        rows: of the images.
        source: where they come from, for people.
    """
    kept = list(rows)
    return ScoreTable(source, {name: [getattr(row, name) for row in kept] for name in COLUMNS})


def is_table(name: str) -> bool:
    """Whether a name is that of a score table: its ending is one that `read_scores` reads."""
    return Path(name).suffix.lower() in ENDINGS


def read_scores(path: Path, column: str = "score") -> ScoreTable:
    """Reads a score table: CSV (and what spreadsheets make of it), JSON lines or Parquet.

    The images are named by the column `path`, or else by the first of `NAME_COLUMNS`. Columns that
    `ScoreRow` does not have are left out.

    Args:
        path: the file; its ending tells the format.
        column: the one that holds the scores.

    Raises:
        TableError: no such file, another format, no column of names or of scores, or a value that
            is not what its column holds.
    """
    return _table(read_cells(path, strip=False), column)


def read_rows(path: Path) -> list[ScoreRow]:
    """Reads a table that `write_rows` wrote, and refuses any other: jobs go on with its rows.

    Raises:
        TableError: it cannot be read, or its columns are not those of `ScoreRow`.
    """
    cells = read_cells(path, strip=False)
    if set(cells.header) != set(COLUMNS):
        raise TableError(
            f"'{path}' is no table of scores of this version: its columns must be "
            f"{', '.join(COLUMNS)}{cells.form}."
        )
    return [ScoreRow(*values) for values in zip(*_table(cells).columns.values(), strict=True)]


def check_replaceable(path: Path, columns: Collection[str]) -> None:
    """Refuses, before any work is done, to replace a table that this package did not write.

    Args:
        path: where to write. An empty file, and what is no file, is nobody's table.
        columns: that every table of its kind has.

    Raises:
        TableError: there is a table of other columns.
    """
    if path.is_file() and path.stat().st_size and not _header(path).issuperset(columns):
        raise TableError(
            f"'{path}' is there and is no table that qfm wrote (it lacks the columns "
            f"{', '.join(columns)}): give another name, or remove it first."
        )


def _header(path: Path) -> set[str]:
    """Names of the columns of a table, from its beginning; none if it is no table."""
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return set(pq.read_schema(path).names)
        with path.open("rb") as file:
            line, _ = as_utf8(file.readline(_LONGEST))
        if path.suffix.lower() == ".jsonl":
            return set(json.loads(line))
    except (OSError, ValueError, TypeError):  # pyarrow's own errors are of these kinds
        return set()
    return set(re.split(r"[,;\t|]", line.decode("utf-8", "replace").strip().replace('"', "")))


def _table(cells: Cells, column: str = "score") -> ScoreTable:
    """Cells as scores: values of their types, and a reason for every missing score."""
    key = column_key(column)
    if key not in cells.columns:
        raise TableError(
            f"{cells.source}: the column of scores '{column}' was asked for, but the columns are: "
            f"{', '.join(cells.header)}; call the one that holds the scores so, or name it by "
            f"--column where the command has that option{cells.form}."
        )
    given = cells.columns[key]
    found = cells.columns | {"path": cells.take_names("path"), "score": given}
    table = {
        name: column_values(cells, SCHEMA[name], found[name]) for name in COLUMNS if name in found
    }
    if not all(table["path"]):
        raise TableError(f"The score table {cells.source} has a row without a path.")
    errors = table.get("error", [""] * len(given))
    table["error"] = [
        (error or _no_score(cell)) if score is None else ""
        for score, error, cell in zip(table["score"], errors, given, strict=True)
    ]
    return ScoreTable(str(cells.source), {name: table[name] for name in COLUMNS if name in table})


def column_values(cells: Cells, column: Column, texts: Sequence[str]) -> list[Any]:
    """The cells of a column as values of its type.

    Raises:
        TableError: one of them is of another type.
    """
    name, kind = column.name, column.kind
    if cells.text is not None and kind in ("int", "float"):
        texts = cells.text.numbers(texts)
    values = []
    for place, text in zip(cells.places, texts, strict=True):
        try:
            values.append(_PARSERS[kind](text))
        except (KeyError, ValueError):
            belongs = "True or False belongs" if kind == "bool" else "a number belongs"
            raise TableError(
                f"{cells.source}: {place} has '{text}' in the column '{name}', where {belongs}"
                f"{cells.form}."
            ) from None
    return values


def _float(text: str) -> float | None:
    """A finite number; None for an empty cell and for what is not a number."""
    if "_" in text:  # Python would read 1_000 as a number; no table means that
        raise ValueError(text)
    number = float(text or "nan")
    return number if math.isfinite(number) else None


def _int(text: str) -> int | None:
    number = _float(text)
    return None if number is None else int(number)


def _bool(text: str) -> bool | None:
    """True or False, as Python and spreadsheets write them."""
    return {"": None, "true": True, "1": True, "false": False, "0": False}[text.lower()]


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "int": _int,
    "float": _float,
    "bool": _bool,
}


def _no_score(cell: str) -> str:
    """Why a cell of the column of scores is none."""
    return f"Its score is {cell}, which is no number." if cell else "There is no score."
