"""Score rows: the result for each file, and how rows are written.

`ScoreRow` is the only schema of scores. CSV, JSON lines, Parquet, the terminal's table, the report,
the service's description and the table in `docs/scores.md` take columns, types and texts from it.

Rows are written as they come, so a table of any length needs memory for only a few thousand rows.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, get_args, get_type_hints

from qfm_iqm.files import check_output, replacing
from qfm_iqm.text_tables import guarded

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 20_000  # rows of a Parquet table in memory at a time


@dataclass(frozen=True)
class ScoreRow:
    """The result for one file: each column with its type and its help text.

    Rows are compared without their seconds.
    """

    path: Annotated[str, "Path of the file, as found under the argument you gave."]
    sha256: Annotated[str, "SHA-256 of the file's content; empty if it could not be read."] = ""
    width: Annotated[int | None, "Width of the upright image in pixels."] = None
    height: Annotated[int | None, "Height of the upright image in pixels."] = None
    score: Annotated[
        float | None,
        "Quality from 0 (worst) to 100 (best), or in label units if these have no range.",
    ] = None
    crop_std: Annotated[float | None, "Standard deviation of the crops' scores."] = None
    percentile: Annotated[
        float | None, "Share in % of the model's reference population that scores lower."
    ] = None
    mos_low: Annotated[
        float | None, "Lower end of the interval that is expected to hold the mean opinion score."
    ] = None
    mos_high: Annotated[float | None, "Upper end of that interval."] = None
    out_of_distribution: Annotated[
        bool | None,
        "Whether the image is unlike the model's training photos or smaller than a crop: then "
        "neither score nor interval is reliable.",
    ] = None
    frames: Annotated[
        int | None,
        "Frames of a video that were scored; empty for a photo. The score is their mean.",
    ] = None
    p10: Annotated[float | None, "The tenth percentile of the scores of a video's frames."] = None
    worst: Annotated[float | None, "Mean score of a video's worst second."] = None
    worst_at: Annotated[float | None, "When that second begins, in seconds."] = None
    cause: Annotated[
        str,
        "What lowers the photo's quality most: blur, noise, compression, exposure, contrast, "
        "color, or none; empty if causes were not requested.",
    ] = ""
    second_cause: Annotated[
        str, "What lowers it most after that, or none; empty if causes were not requested."
    ] = ""
    blur: Annotated[
        float | None,
        "Severity of blur: how many points (of 100) a good photo would lose to blur alone.",
    ] = None
    noise: Annotated[float | None, "Severity of noise, likewise."] = None
    compression: Annotated[float | None, "Severity of compression, likewise."] = None
    exposure: Annotated[float | None, "Severity of wrong exposure, likewise."] = None
    contrast: Annotated[float | None, "Severity of low or harsh contrast, likewise."] = None
    color: Annotated[float | None, "Severity of wrong, missing or too few colors, likewise."] = None
    status: Annotated[Literal["ok", "error"], "ok, or error for a file without a score."] = "ok"
    error: Annotated[str, "One sentence that says why there is no score; empty if there is."] = ""
    model: Annotated[str, "Name of the model."] = ""
    weights: Annotated[str, "SHA-256 of the model's weights; empty if it was never saved."] = ""
    runtime: Annotated[str, "What computed the score: torch, onnx or openvino."] = ""
    precision: Annotated[str, "Precision of the computation: fp32, bf16 or int8."] = ""
    seconds: Annotated[
        float,
        "Seconds spent on the image: reading it, plus its share of the batches that the network "
        "ran.",
    ] = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Column:
    """One column of `ScoreRow`.

    Attributes:
        name: name in tables.
        title: title for display.
        kind: type of the values: "str", "int", "float" or "bool".
        help: help text.
    """

    name: str
    title: str
    kind: str
    help: str


def _column(name: str, hint: object) -> Column:
    plain, text = get_args(hint)
    kinds = set(get_args(plain) or (plain,)) - {type(None)}
    kind = kinds.pop() if len(kinds) == 1 else str  # several kinds: a Literal of texts
    title = name.replace("_", " ").capitalize().replace("Mos", "MOS")
    return Column(name, title, kind.__name__, text)


def schema_of(kind: type[ScoreRow]) -> Mapping[str, Column]:
    """The columns of a row class by name, in the order of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: _column(name, hints[name]) for name in (one.name for one in fields(kind))}


SCHEMA = schema_of(ScoreRow)
"""The columns by name, in the order of every table."""

COLUMNS = tuple(SCHEMA)
_TO_QUOTE = re.compile(r"[\r;\t]")


def write_rows(rows: Iterable[ScoreRow], path: Path, schema: Mapping[str, Column] = SCHEMA) -> None:
    """Writes rows atomically as CSV, JSON lines or Parquet, by the file extension.

    An earlier file is replaced only when the new one is complete and on disk.

    Args:
        rows: rows in order.
        path: file to write.
        schema: columns of these rows, in order.

    Raises:
        TableError: the file cannot be written.
    """
    check_output(path, *ENDINGS)
    with replacing(path) as partial:
        _WRITERS[path.suffix.lower()](rows, partial, schema)


def print_csv(
    rows: Iterable[ScoreRow], file: TextIO, schema: Mapping[str, Column] = SCHEMA
) -> None:
    """Writes rows as CSV to an open file or stream, guarded against formulas."""
    plain = csv.DictWriter(file, schema, lineterminator="\n")
    # Python before 3.13 does not quote a carriage return, which then ends the row. A spreadsheet
    # with another delimiter must not find a formula after that delimiter.
    quoted = csv.DictWriter(file, schema, lineterminator="\n", quoting=csv.QUOTE_ALL)
    texts_of = [column.name for column in schema.values() if column.kind == "str"]
    plain.writeheader()
    for row in rows:
        cells = {name: getattr(row, name) for name in schema}
        texts = "".join(cells[name] for name in texts_of)
        writer = quoted if _TO_QUOTE.search(texts) else plain
        writer.writerow({name: guarded(value) for name, value in cells.items()})


def arrow_schema(schema: Mapping[str, Column] = SCHEMA) -> pa.Schema:
    """The columns of a table as an Arrow schema."""
    import pyarrow as pa

    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    return pa.schema([(column.name, types[column.kind]) for column in schema.values()])


def to_arrow(rows: Iterable[ScoreRow], schema: Mapping[str, Column] = SCHEMA) -> pa.Table:
    """Converts rows to an Arrow table; invalid Unicode text is escaped."""
    import pyarrow as pa

    held = list(rows)
    types = arrow_schema(schema)
    columns = [
        pa.array([_valid(getattr(row, column.name)) for row in held], column.type)
        for column in types
    ]
    return pa.table(columns, schema=types)


def _write_csv(rows: Iterable[ScoreRow], path: Path, schema: Mapping[str, Column]) -> None:
    # File names that are not valid text are kept byte by byte.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        print_csv(rows, file, schema)


def _write_jsonl(rows: Iterable[ScoreRow], path: Path, schema: Mapping[str, Column]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({name: getattr(row, name) for name in schema}) + "\n" for row in rows
        )


def _write_parquet(rows: Iterable[ScoreRow], path: Path, schema: Mapping[str, Column]) -> None:
    import pyarrow.parquet as pq

    coming = iter(rows)
    with pq.ParquetWriter(path, arrow_schema(schema)) as writer:
        while group := list(islice(coming, ROW_GROUP)):
            writer.write_table(to_arrow(group, schema))


def _valid(value: object) -> object:
    """Escapes invalid Unicode in text, which Parquet does not allow."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value


_WRITERS: dict[str, Callable[[Iterable[ScoreRow], Path, Mapping[str, Column]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
ENDINGS = tuple(_WRITERS)
"""File extensions of the tables that `write_rows` writes."""
