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

from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import COLUMNS, ScoreRow, check_output, print_csv, read_rows, write_rows
from qfm_iqm.scoring.table import read_scores

HASH = "ab" * 32
FACTS = {"model": "default", "weights": HASH, "runtime": "torch", "precision": "fp32"}


def good(path, score=61.234567, spread=0.5, **more):
    return ScoreRow(path, HASH, 640, 480, score, spread, seconds=0.25, **FACTS, **more)


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
        low=51.25,
        high=70.5,
        unusual=True,
    ),
    good("plain.png", 1.0, 2.5, unusual=False),
    good("тень 影 🙂.png", 5.0, 0.0),
]


def read_csv(path_or_text):
    """Read without our reader."""
    text = path_or_text if isinstance(path_or_text, str) else path_or_text.read_bytes().decode(
        "utf-8", "surrogateescape"
    )  # fmt: skip
    numbers = {"width": int, "height": int, "unusual": lambda text: text == "True"}
    numbers |= dict.fromkeys(("score", "spread", "percentile", "low", "high", "seconds"), float)
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
    assert list(read_rows(path)) == rows
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_columns_and_types():
    assert COLUMNS == (
        "path", "sha256", "width", "height", "score", "spread", "percentile", "low", "high",
        "unusual", "status", "error", "model", "weights", "runtime", "precision", "seconds",
    )  # fmt: skip


def test_a_parquet_table_keeps_its_types_without_rows(tmp_path):
    for rows in ([], [BAD], [GOOD]):
        write_rows(rows, tmp_path / "t.parquet")
        types = [str(field.type) for field in pq.read_schema(tmp_path / "t.parquet")]
        numbers = ["int64", "int64", *["double"] * 5, "bool"]
        assert types == ["string"] * 2 + numbers + ["string"] * 6 + ["double"]


def test_plain_names_make_a_plain_csv(tmp_path):
    write_rows([GOOD, BAD], tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode().splitlines() == [
        ",".join(COLUMNS),
        f"a/b.jpg,{HASH},640,480,61.234567,0.5,,,,,ok,,default,{HASH},torch,fp32,0.25",
        f"a/c.jpg,,,,,,,,,,error,'a/c.jpg' is empty.,default,{HASH},torch,fp32,0.0",
    ]


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1)
names |= st.text("'=+-@\t\r;a", min_size=1, max_size=4)


@given(st.lists(names, min_size=1, max_size=4))
def test_any_name_survives_csv(paths):
    rows = [good(path) for path in paths]
    file = io.StringIO(newline="")
    print_csv(rows, file)
    # A spreadsheet finds no formula, and all of the name behind the apostrophe.
    cells = [row["path"] for row in csv.DictReader(io.StringIO(file.getvalue(), newline=""))]
    assert not any(re.match(r"[=+\-@\t\r\n]", cell) for cell in cells)
    assert all(cell in (path, f"'{path}") for cell, path in zip(cells, paths, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        write_rows(rows, Path(folder) / "t.csv")
        assert list(read_rows(Path(folder) / "t.csv")) == rows
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


@pytest.mark.parametrize("name", ["scores", "scores.txt", "scores.csv.gz", ".csv"])
def test_an_unknown_ending_is_refused(tmp_path, name):
    with pytest.raises(TableError, match=r"must end in \.csv, \.jsonl, \.parquet\."):
        check_output(tmp_path / name)


def test_only_one_format_may_be_allowed(tmp_path):
    check_output(tmp_path / "t.csv", only=".csv")
    with pytest.raises(TableError, match=r"must end in \.csv\."):
        check_output(tmp_path / "t.parquet", only=".csv")


def test_a_folder_and_a_place_that_is_not_there_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="it is a folder"):
        check_output(tmp_path / "folder.csv")
    with pytest.raises(TableError, match=r"there is no folder .*gone"):
        check_output(tmp_path / "gone" / "t.csv")
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match=r"there is no folder .*file"):
        check_output(tmp_path / "file" / "t.csv")


@pytest.mark.parametrize("locked", ["folder", "file"])
def test_a_place_without_permission_is_refused(tmp_path, monkeypatch, locked):
    target = tmp_path / "t.csv"
    target.touch()
    place = tmp_path if locked == "folder" else target
    monkeypatch.setattr(os, "access", lambda path, mode: path != place)  # root may write all
    with pytest.raises(TableError, match="no permission"):
        check_output(target)


def test_a_failed_write_keeps_the_earlier_table(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    write_rows([GOOD], path)
    before = path.read_bytes()

    def fails():
        yield BAD
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(fails(), path)

    def full_disk(rows, file):
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
    assert read(tmp_path / "t.parquet") == rows == list(read_rows(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"path,score\na.jpg,1\n", "row 1 has not the columns path, sha256"),
        ("t.jsonl", b"{]\n", "cannot be read as a table of scores"),
        ("t.jsonl", b"[1]\n", "row 1 has not the columns"),
        ("t.parquet", b"PAR1 no", "cannot be read as a table of scores"),
        ("t.txt", b"", "its name must end in"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=sentence):
        list(read_rows(tmp_path / name))
