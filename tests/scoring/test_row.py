import csv
import io
import json
import os
import re
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import COLUMNS, SCHEMA, ScoreRow, print_csv, to_arrow, write_rows
from qfm_iqm.scoring.table import read_rows, read_scores

HASH = "ab" * 32
FACTS = {"model": "default", "weights": HASH, "runtime": "torch", "precision": "fp32"}


def good(path, score=61.234567, crop_std=0.5, **more):
    return ScoreRow(path, HASH, 640, 480, score, crop_std, seconds=0.25, **FACTS, **more)


GOOD = good("a/b.jpg")
BAD = ScoreRow("a/c.jpg", status="error", error="'a/c.jpg' is empty.", **FACTS)
ROWS = [
    GOOD,
    BAD,
    good('with space, comma and "quotes".png', -1e-06, 0.0),
    good("line\nbreak.png", 1e300, 2.5),
    good(
        "carriage\rreturn.png",
        0.1 + 0.2,
        2.5,
        percentile=62.5,
        mos_low=51.25,
        mos_high=70.5,
        out_of_distribution=True,
    ),
    good("plain.png", 1.0, 2.5, out_of_distribution=False),
    good("тень 影 🙂.png", 5.0, 0.0),
]


def read_csv(path_or_text):
    """Read without our reader."""
    text = path_or_text if isinstance(path_or_text, str) else path_or_text.read_bytes().decode(
        "utf-8", "surrogateescape"
    )  # fmt: skip
    numbers = {"width": int, "height": int, "out_of_distribution": lambda text: text == "True"}
    numbers["frames"] = int
    numbers |= dict.fromkeys(
        (
            "score",
            "crop_std",
            "percentile",
            "mos_low",
            "mos_high",
            "p10",
            "worst",
            "worst_at",
            "seconds",
            *CAUSES,
        ),
        float,
    )
    return [
        ScoreRow(**{
            name: (numbers[name](value) if value else None) if name in numbers else value
            for name, value in row.items()
        })
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]  # fmt: skip


def read(path):
    """Read without our reader."""
    if path.suffix == ".csv":
        return read_csv(path)
    if path.suffix == ".jsonl":
        return [ScoreRow(**json.loads(line)) for line in path.read_text("ascii").splitlines()]
    return [ScoreRow(**row) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:5], [BAD], []])
def test_every_format_holds_the_same(tmp_path, suffix, rows):
    path = tmp_path / f"scores{suffix}"
    write_rows(iter(rows), path)
    read_back = read(path) if suffix != ".CSV" else read_csv(path)
    assert read_back == rows
    assert [row.seconds for row in read_back] == [row.seconds for row in rows]
    if rows:
        assert read_rows(path) == rows
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_columns_and_types():
    assert COLUMNS == (
        "path", "sha256", "width", "height", "score", "crop_std", "percentile", "mos_low",
        "mos_high", "out_of_distribution", "frames", "p10", "worst", "worst_at", "cause",
        "second_cause", "blur",
        "noise", "compression", "exposure", "contrast", "color", "status", "error",
        "model", "weights", "runtime", "precision", "seconds",
    )  # fmt: skip
    kinds = [column.kind for column in SCHEMA.values()]
    assert kinds == [
        *["str"] * 2,
        *["int"] * 2,
        *["float"] * 5,
        "bool",
        "int",
        *["float"] * 3,
        *["str"] * 2,
        *["float"] * 6,
        *["str"] * 6,
        "float",
    ]
    assert [SCHEMA[name].title for name in ("mos_low", "crop_std")] == ["MOS low", "Crop std"]


def test_the_page_on_scores_says_of_each_column_what_the_code_says():
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text("utf-8")
    rows = [f"| `{one.name}` | {one.kind} | {one.help} |" for one in SCHEMA.values()]
    assert "\n".join(["| column | type | what it says |", "|---|---|---|", *rows, ""]) in page


def test_a_parquet_table_keeps_its_types_without_rows(tmp_path):
    for rows in ([], [BAD], [GOOD]):
        write_rows(rows, tmp_path / "t.parquet")
        types = [str(field.type) for field in pq.read_schema(tmp_path / "t.parquet")]
        numbers = ["int64", "int64", *["double"] * 5, "bool", "int64", *["double"] * 3]
        numbers += ["string"] * 2 + ["double"] * 6
        assert types == ["string"] * 2 + numbers + ["string"] * 6 + ["double"]


def test_plain_names_make_a_plain_csv(tmp_path):
    write_rows([GOOD, BAD], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode().splitlines() == [
        ",".join(COLUMNS),
        f"a/b.jpg,{HASH},640,480,61.234567,0.5,,,,,,,,,,,,,,,,,ok,,default,{HASH},torch,fp32,0.25",
        f"a/c.jpg,,,,,,,,,,,,,,,,,,,,,,error,'a/c.jpg' is empty.,default,{HASH},torch,fp32,0.0",
    ]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1)
names |= st.text("'=+-@\t\r;a", min_size=1, max_size=4)


@given(st.lists(names, min_size=1, max_size=4))
def test_any_name_survives_csv(paths):
    rows = [good(path) for path in paths]
    file = io.StringIO(newline="")
    print_csv(rows, file)
    # Not a formula for a spreadsheet, and the whole name after the apostrophe.
    cells = [row["path"] for row in csv.DictReader(io.StringIO(file.getvalue(), newline=""))]
    assert not any(re.match(r"[=+\-@\t\r\n]", cell) for cell in cells)
    assert all(cell in (path, f"'{path}") for cell, path in zip(cells, paths, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        write_rows(rows, Path(folder) / "t.csv")
        assert read_rows(Path(folder) / "t.csv") == rows
        assert read_scores(Path(folder) / "t.csv").paths == paths


def test_names_that_are_no_text(tmp_path):
    path = os.fsdecode(b"caf\xe9.jpg")
    row = good(path)
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_rows([row], tmp_path / f"t{suffix}")
    assert b"\ncaf\xe9.jpg," in (tmp_path / "t.csv").read_bytes()
    assert os.fsencode(read(tmp_path / "t.csv")[0].path) == b"caf\xe9.jpg"
    assert os.fsencode(read(tmp_path / "t.jsonl")[0].path) == b"caf\xe9.jpg"
    assert read(tmp_path / "t.parquet")[0].path == r"caf\udce9.jpg"  # Parquet is Unicode only


def test_a_failed_write_keeps_the_earlier_table(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    write_rows([GOOD], path)
    before = path.read_bytes()

    def fails():
        yield BAD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(fails(), path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qfm_iqm.scoring.row.print_csv", full_disk)
    with pytest.raises(TableError, match=r"cannot be written: No space left on device\."):
        write_rows([BAD], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_long_tables_are_written_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr("qfm_iqm.scoring.row.ROW_GROUP", 10)
    rows = [good(f"{number}.jpg", number / 7) for number in range(35)]
    write_rows(iter(rows), tmp_path / "t.parquet")
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 4
    assert read(tmp_path / "t.parquet") == rows == read_rows(tmp_path / "t.parquet")


def test_rows_as_an_arrow_table():
    rows = [GOOD, ScoreRow("caf\udce9.jpg", status="error", error="it is empty")]
    table = to_arrow(iter(rows))
    assert tuple(table.column_names) == COLUMNS
    first, second = table.to_pylist()
    assert ScoreRow(**first) == GOOD
    assert first["seconds"] == 0.25
    assert second["path"] == "caf\\udce9.jpg"
    assert second["width"] is second["score"] is None
    assert to_arrow([]).schema == table.schema
