"""Score tables read back: what `qfm score` wrote, as columns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from qfm_iqm.errors import TableError
from qfm_iqm.text_tables import SUFFIXES, read_text, read_text_table

_TEXT, _NUMBER, _COUNT, _FLAG = "text", "number", "count", "flag"
KNOWN: Mapping[str, str] = {
    "path": _TEXT,
    "score": _NUMBER,
    "spread": _NUMBER,
    "percentile": _NUMBER,
    "low": _NUMBER,
    "high": _NUMBER,
    "unusual": _FLAG,
    "width": _COUNT,
    "height": _COUNT,
    "status": _TEXT,
    "error": _TEXT,
    "model": _TEXT,
    "sha256": _TEXT,
    "weights": _TEXT,
    "runtime": _TEXT,
    "precision": _TEXT,
    "seconds": _NUMBER,
}
"""The columns a score table may have; all but `path` and `score` may be absent."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of images, as columns of equal length.

    Attributes:
        source: where they come from, for people.
        columns: by name out of `KNOWN`, in that order; `path`, `score` and `error` are always
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


def table_of(rows: Iterable[object], source: str) -> ScoreTable:
    """Score rows, as the engine yields them, as a table.

    Args:
        rows: dataclass instances whose fields are columns.
        source: where they come from, for people.
    """
    kept = list(rows)
    names = {field.name for row in kept[:1] if is_dataclass(row) for field in fields(row)}
    columns = {name: [getattr(row, name) for row in kept] for name in KNOWN if name in names}
    return _checked(columns or {"path": [], "score": []}, source)


def read_scores(path: Path) -> ScoreTable:
    """Reads a score table: CSV (and what spreadsheets make of it), JSON lines or Parquet.

    The name's ending says which.

    Raises:
        TableError: no such file, another format, no `path` or `score` column, or a value that
            is not what its column holds.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(f"'{path}' is no score table: its name must end in {', '.join(_READERS)}.")
    try:
        columns, form = reader(path)
    except FileNotFoundError:
        raise TableError(f"There is no score table {path}.") from None
    except OSError as error:
        raise TableError(
            f"The score table {path} cannot be read: {error.strerror or error}."
        ) from error
    missing = [name for name in ("path", "score") if name not in columns]
    if missing:
        raise TableError(
            f"The score table {path} has no column '{missing[0]}': give one that qfm score "
            f"wrote{form}."
        )
    return _checked({name: columns[name] for name in KNOWN if name in columns}, str(path), form)


def _checked(columns: dict[str, list[Any]], source: str, form: str = "") -> ScoreTable:
    """Columns with values of their kinds, and a reason for every missing score."""
    table: dict[str, list[Any]] = {}
    for name, values in columns.items():
        table[name] = []
        for row, value in enumerate(values, 1):
            try:
                table[name].append(_value(KNOWN[name], value))
            except (TypeError, ValueError):
                belongs = "True or False belongs" if KNOWN[name] == _FLAG else "a number belongs"
                raise TableError(
                    f"Row {row} of the score table {source} has '{value}' in the column '{name}', "
                    f"where {belongs}{form}."
                ) from None
    errors = table.get("error") or [""] * len(table["path"])
    table["error"] = [
        (error or _no_score(given)) if score is None else ""
        for score, error, given in zip(table["score"], errors, columns["score"], strict=True)
    ]
    if not all(table["path"]):
        raise TableError(f"The score table {source} has a row without a path.")
    return ScoreTable(source, {name: table[name] for name in KNOWN if name in table})


def _value(kind: str, value: Any) -> Any:
    """One value as its column's kind; empty and not-a-number are None.

    Raises:
        TypeError: it is of another kind.
        ValueError: likewise.
    """
    if kind == _TEXT:
        return "" if value is None else str(value)
    if value is None or value == "":
        return None
    if kind == _FLAG:
        return _flag(str(value))
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if kind == _COUNT else number


def _flag(text: str) -> bool:
    """True or False, as Python and spreadsheets write them."""
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError(text)


def _no_score(given: Any) -> str:
    """Why what stands in the column of scores is none."""
    return (
        "There is no score."
        if given in (None, "")
        else f"Its score is {given}, which is no number."
    )


_Columns = tuple[dict[str, list[Any]], str]  # and how the file was read, to end a message


def _read_text_table(path: Path) -> _Columns:
    table = read_text_table(path)
    columns = {name: [row[i] for row in table.rows] for i, name in enumerate(table.header)}
    for name, cells in columns.items():
        if KNOWN.get(name) in (_NUMBER, _COUNT):
            columns[name] = list(table.numbers(cells))
    return columns, f" ({table.form})"


def _read_jsonl(path: Path) -> _Columns:
    text, encoding = read_text(path)
    rows = [_json_row(line, i, path) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    names = {name: None for row in rows for name in row}
    return {name: [row.get(name) for row in rows] for name in names}, f" (read as {encoding})"


def _json_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise TableError(f"Line {number} of the score table {path} is no JSON object.")
    return row


def _read_parquet(path: Path) -> _Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(path).names if name in KNOWN]
        columns: dict[str, list[Any]] = pq.read_table(path, columns=names).to_pydict()
    except pa.ArrowException as error:
        raise TableError(f"The score table {path} is no Parquet file.") from error
    return columns, ""


_READERS: Mapping[str, Callable[[Path], _Columns]] = {
    **dict.fromkeys(SUFFIXES, _read_text_table),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
