"""A table of rated images as one CSV or Parquet file, the same columns for every dataset."""

from __future__ import annotations

import csv
from pathlib import Path

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.text_tables import guarded
from qfm_iqm.writing import replacing, writing_text

COLUMNS = ("name", "mos", "std", "content", "distortion", "level", "split")


def write_table(table: RatedTable, path: Path) -> None:
    """Writes `COLUMNS` of a table; what the dataset does not have stays blank.

    The label is the dataset's own value, untouched, to the last digit.

    Args:
        table: with labels.
        path: that ends in .csv or .parquet.

    Raises:
        TableError: no labels, another ending, or a place that cannot be written to.
    """
    if table.mos is None:
        raise TableError(f"{table.source} has no labels to write.")
    blank = ("",) * len(table)
    texts = {
        "name": table.names,
        "content": table.contents,
        **{key: table.columns.get(key, blank) for key in ("std", "distortion", "level", "split")},
    }
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise TableError(f"'{path}' cannot be written: its name must end in .csv or .parquet.")
    writer(path, texts, table.mos.tolist())


def _write_csv(path: Path, texts: dict[str, tuple[str, ...]], labels: list[float]) -> None:
    columns = [labels if name == "mos" else texts[name] for name in COLUMNS]
    with writing_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(guarded, row) for row in zip(*columns, strict=True))


def _write_parquet(path: Path, texts: dict[str, tuple[str, ...]], labels: list[float]) -> None:
    # Here, not above: a table in CSV must not wait for pyarrow.
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: labels if name == "mos" else list(texts[name]) for name in COLUMNS}
    with replacing(path) as partial:
        pq.write_table(pa.table(arrays), partial)
