"""One image, one row: what scoring says of a file, and the tables these rows are kept in.

Rows are written as they come: a table of any length needs the memory of a few thousand rows.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_type_hints

from qfm_iqm.errors import TableError
from qfm_iqm.files import replacing
from qfm_iqm.text_tables import guarded, unguarded

if TYPE_CHECKING:
    import pyarrow as pa
from typing import TYPE_CHECKING

from qfm_iqm.errors import QFMError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

ROW_GROUP = 20_000  # rows of a Parquet table that are in memory at once


@dataclass(frozen=True)
class ScoreRow:
    """What came of one file. Two rows are equal when all but the seconds is.

    Attributes:
        path: the file, as found under the argument given.
        sha256: of the file's content that was scored; empty where it could not be read.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        score: 0 (worst) to 100 (best), or in label units if these have no range; None where there
            is none.
        spread: standard deviation of the crops' scores.
        percentile: share in % of the model's reference population that scores lower. This and
            the next three are None where the model's card does not say what scores mean.
        low: lower end of the interval in which people's mean opinion is expected.
        high: upper end.
        unusual: whether the image is unlike the photos that the model has learned from, or has a
            side shorter than the model's crop, which is said for every model.
        status: "ok" or "error".
        error: one sentence that says why there is no score; empty if there is one.
        model: the model's name.
        weights: SHA-256 of the model's weights; empty of a model that was never saved.
        runtime: what computed the score: "torch", "onnx" or "openvino".
        precision: in which it was computed: "fp32", "bf16" or "int8".
        seconds: that the image took, reading and its share of the network's passes together.
    """

    path: str
    sha256: str = ""
    width: int | None = None
    height: int | None = None
    score: float | None = None
    spread: float | None = None
    percentile: float | None = None
    low: float | None = None
    high: float | None = None
    unusual: bool | None = None
    status: Literal["ok", "error"] = "ok"
    error: str = ""
    model: str = ""
    weights: str = ""
    runtime: str = ""
    precision: str = ""
    seconds: float = field(default=0.0, compare=False)


COLUMNS = tuple(field.name for field in fields(ScoreRow))
_TO_QUOTE = re.compile(r"[\r;\t]")


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

    An earlier file of that name is replaced only when the new one is complete and on the disk.

    Raises:
        TableError: the place cannot be written to.
    """
    check_output(path)
    with replacing(path) as partial:
        _WRITERS[path.suffix.lower()](rows, partial)


def read_rows(path: Path) -> Iterator[ScoreRow]:
    """Reads a table that `write_rows` wrote, row by row.

    Raises:
        TableError: it cannot be read, or is no table of scores.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(f"'{path}' is no table: its name must end in {', '.join(_READERS)}.")
    try:
        for number, values in enumerate(reader(path), 1):
            if not isinstance(values, dict) or set(values) != set(COLUMNS):
                raise TableError(
                    f"'{path}' is no table of scores of this version: row {number} has not the "
                    f"columns {', '.join(COLUMNS)}."
                )
            yield ScoreRow(**values)
    except (OSError, ValueError) as error:
        raise TableError(f"'{path}' cannot be read as a table of scores: {error}") from error


def print_csv(rows: Iterable[ScoreRow], file: TextIO) -> None:
    """Writes rows as CSV to an open file or stream, guarded against formulas."""
    plain = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    # Python before 3.13 leaves a carriage return unquoted, which then reads as the end of a row.
    # A spreadsheet whose delimiter is another one must not find a formula behind it.
    quoted = csv.DictWriter(file, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writeheader()
    for row in rows:
        writer = quoted if _TO_QUOTE.search(row.path + row.error) else plain
        writer.writerow({name: guarded(value) for name, value in asdict(row).items()})


def arrow_schema() -> pa.Schema:
    """The columns of a table of scores in Arrow's types."""
    import pyarrow as pa

    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, types.get(kind, pa.string())) for name, kind in _kinds().items()])


def arrow_table(rows: Iterable[ScoreRow]) -> pa.Table:
    """Rows as an Arrow table; text that is no valid Unicode is escaped."""
    import pyarrow as pa

    held = list(rows)
    schema = arrow_schema()
    columns = [
        pa.array([_valid(getattr(row, column.name)) for row in held], column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)


def _kinds() -> dict[str, type]:
    """The plain type of each column: int, float, bool or str."""
    plain = {}
    for name, hint in get_type_hints(ScoreRow).items():
        members = set(getattr(hint, "__args__", (hint,))) - {type(None)}
        (kind,) = members if len(members) == 1 else (str,)
        plain[name] = kind if kind in (int, float, bool) else str
    return plain


def _write_csv(rows: Iterable[ScoreRow], path: Path) -> None:
    # File names that are no valid text are kept as the system gave them.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        print_csv(rows, file)


def _write_jsonl(rows: Iterable[ScoreRow], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def _write_parquet(rows: Iterable[ScoreRow], path: Path) -> None:
    import pyarrow.parquet as pq

    coming = iter(rows)
    with pq.ParquetWriter(path, arrow_schema()) as writer:
        while group := list(islice(coming, ROW_GROUP)):
            writer.write_table(arrow_table(group))


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    kinds = _kinds()
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for line in csv.DictReader(file):
            yield {name: _parsed(value, kinds.get(name, str)) for name, value in line.items()}


def _parsed(text: str, kind: type) -> Any:
    if kind is str:
        return unguarded(text)
    if text == "":
        return None
    return text == "True" if kind is bool else kind(text)


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP):
            yield from batch.to_pylist()


def _valid(value: object) -> object:
    """Text that any reader takes: Parquet knows only valid Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


_WRITERS: dict[str, Callable[[Iterable[ScoreRow], Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
_READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def to_arrow(rows: Iterable[ScoreRow]) -> pa.Table:
    """Rows as an Arrow table; text that is no valid Unicode is escaped."""
    return arrow_table(rows)


def to_pandas(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """Rows as a pandas table, with nullable whole numbers.

    Raises:
        QFMError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise QFMError("pandas is not installed: pip install pandas.") from error
    import pyarrow as pa

    kinds = {pa.int64(): pd.Int64Dtype()}
    frame: pd.DataFrame = arrow_table(rows).to_pandas(types_mapper=kinds.get)
    return frame


def to_polars(rows: Iterable[ScoreRow]) -> pl.DataFrame:
    """Rows as a polars table.

    Raises:
        QFMError: polars is not installed.
    """
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise QFMError("polars is not installed: pip install polars.") from error
    frame = pl.from_arrow(arrow_table(rows))
    assert isinstance(frame, pl.DataFrame)
    return frame
