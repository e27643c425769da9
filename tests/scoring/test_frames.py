import pytest

from qfm_iqm.scoring.row import COLUMNS, ScoreRow, to_arrow, to_pandas, to_polars

ROWS = [
    ScoreRow("a.jpg", "ab", 640, 480, 1.5, 0.25, model="m", runtime="torch", seconds=0.5),
    ScoreRow("caf\udce9.jpg", status="error", error="it is empty"),
]


def test_arrow():
    table = to_arrow(iter(ROWS))
    assert tuple(table.column_names) == COLUMNS
    first, second = table.to_pylist()
    assert ScoreRow(**first) == ROWS[0]
    assert first["seconds"] == 0.5
    assert second["path"] == "caf\\udce9.jpg"
    assert second["width"] is second["score"] is None
    assert to_arrow([]).schema == table.schema


def test_pandas():
    pytest.importorskip("pandas")
    frame = to_pandas(ROWS)
    assert tuple(frame.columns) == COLUMNS
    assert str(frame["width"].dtype) == "Int64"  # whole numbers stay whole beside a missing one
    assert frame["score"].mean() == 1.5
    assert frame["score"].isna().tolist() == [False, True]


def test_polars():
    polars = pytest.importorskip("polars")
    frame = to_polars(ROWS)
    assert tuple(frame.columns) == COLUMNS
    assert frame.schema["width"] == polars.Int64
    assert frame.filter(polars.col("status") == "ok")["score"].to_list() == [1.5]
