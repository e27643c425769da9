"""One image, one row: what scoring says of a file, and the tables these rows are kept in."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TextIO

from qfm_iqm.errors import TableError


@dataclass(frozen=True)
class ScoreRow:
    """What came of one file.

    Attributes:
        path: the file, as found under the argument given.
        score: 0 (worst) to 100 (best), or in label units if these have no range; None where there
            is none.
        spread: standard deviation of the crops' scores.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        status: "ok" or "error".
        error: one sentence that says why there is no score; empty if there is one.
        model: the model's name.
        percentile: share in % of the model's reference population that scores lower. This and
            what follows is None where the model's card does not say what scores mean.
        low: lower end of the interval in which people's mean opinion is expected.
        high: upper end.
        unusual: whether the image is unlike the photos that the model has learned from.
    """

    path: str
    score: float | None
    spread: float | None
    width: int | None
    height: int | None
    status: Literal["ok", "error"]
    error: str
    model: str
    percentile: float | None = None
    low: float | None = None
    high: float | None = None
    unusual: bool | None = None


COLUMNS = tuple(field.name for field in fields(ScoreRow))


def check_output(path: Path, *, only: str | None = None) -> None:
    """Refuses, before any work is done, a table that could not be written.

    Args:
        path: where to.
        only: the one format that is written there; None allows all of them.

    Raises:
        TableError: an unknown format, a folder, or a place that cannot be written to.
    """
    allowed = tuple(_WRITERS) if only is None else (only,)
    if path.suffix.lower() not in allowed:
        raise TableError(f"'{path}' cannot be written: its name must end in {', '.join(allowed)}.")
    if path.is_dir():
        raise TableError(f"'{path}' cannot be written: it is a folder.")
    if not path.parent.is_dir():
        raise TableError(f"'{path}' cannot be written: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise TableError(f"'{path}' cannot be written: no permission.")


def write_rows(rows: Iterable[ScoreRow], path: Path) -> None:
    """Writes rows as CSV, JSON lines or Parquet, by the name's ending, in one step.

    An earlier file of that name is replaced only when the new one is complete.

    Raises:
        TableError: the place cannot be written to.
    """
    check_output(path)
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False
        ) as file:
            partial = Path(file.name)
        try:
            _WRITERS[path.suffix.lower()](list(rows), partial)
            partial.chmod(0o644)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise TableError(f"'{path}' cannot be written: {error.strerror}.") from error


def print_csv(rows: list[ScoreRow], file: TextIO) -> None:
    """Writes rows as CSV to an open file or stream."""
    # Python before 3.13 leaves a carriage return unquoted, which then reads as the end of a row.
    returns = any("\r" in row.path or "\r" in row.error for row in rows)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)


def _write_csv(rows: list[ScoreRow], path: Path) -> None:
    # File names that are no valid text are kept as the system gave them.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        print_csv(rows, file)


def _write_jsonl(rows: list[ScoreRow], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def _write_parquet(rows: list[ScoreRow], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, count = pa.string(), pa.float64(), pa.int64()
    types = (
        text, number, number, count, count, text, text, text, number, number, number, pa.bool_(),
    )  # fmt: skip
    columns = {
        name: pa.array([_valid(getattr(row, name)) for row in rows], kind)
        for name, kind in zip(COLUMNS, types, strict=True)
    }
    pq.write_table(pa.table(columns), path)


def _valid(value: object) -> object:
    """Text that any reader takes: Parquet knows only valid Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


_WRITERS: dict[str, Callable[[list[ScoreRow], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
