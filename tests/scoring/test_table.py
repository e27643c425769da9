import csv
import io
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.scoring.row import ScoreRow, to_arrow, write_rows
from qfm_iqm.scoring.table import read_rows, read_scores, table_of

ENDINGS = ("csv", "jsonl", "parquet")
ROWS = [
    ScoreRow(
        path="a/1.jpg",
        score=61.25,
        crop_std=2.5,
        width=640,
        height=480,
        status="ok",
        error="",
        model="m",
    ),
    ScoreRow(
        path='b/odd "name",\r\n.png',
        score=12.0,
        crop_std=0.0,
        width=1,
        height=2,
        status="ok",
        error="",
        model="m",
    ),
    ScoreRow(
        path="b/тень.png",
        score=None,
        crop_std=None,
        width=None,
        height=None,
        status="error",
        error="cannot read it: it is empty",
        model="m",
    ),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_written_is_read_back(tmp_path, ending):
    path = tmp_path / f"scores.{ending}"
    write_rows(ROWS, path)
    table = read_scores(path)
    assert table.source == str(path)
    assert dict(table.columns) == dict(table_of(ROWS, "").columns)
    assert read_rows(path) == ROWS
    assert table.paths == [row.path for row in ROWS]
    assert table.scores == [61.25, 12.0, None]
    assert table.columns["width"] == [640, 1, None]
    assert table.columns["error"] == ["", "", "cannot read it: it is empty"]
    assert table.models == ["m"]
    assert len(table) == 3


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.none() | finite), max_size=5))
def test_csv_keeps_any_name_and_number(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    pairs = [(name.replace("\x00", "0"), score) for name, score in pairs]
    pairs = [(name, score) for name, score in pairs if name.isprintable()] or [("x", 1.0)]
    write_rows(
        [
            ScoreRow(
                path=name,
                score=score,
                crop_std=None,
                width=None,
                height=None,
                status="ok",
                error="",
                model="m",
            )
            for name, score in pairs
        ],
        path,
    )
    table = read_scores(path)
    assert list(zip(table.paths, table.scores, strict=True)) == pairs


def test_a_name_that_is_no_text_survives_csv(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_rows(
        [
            ScoreRow(
                path=name,
                score=1.0,
                crop_std=0.0,
                width=1,
                height=1,
                status="ok",
                error="",
                model="m",
            )
        ],
        tmp_path / "t.csv",
    )
    assert read_scores(tmp_path / "t.csv").paths == [name]


def test_columns_of_other_versions_are_taken_and_others_left(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "note,path,score,mos_low,mos_high,out_of_distribution\nx,a.jpg,1,0.5,1.5,True\ny,b.jpg,,,,\n"
    )
    table = read_scores(path)
    assert list(table.columns) == [
        "path",
        "score",
        "mos_low",
        "mos_high",
        "out_of_distribution",
        "error",
    ]
    assert table.columns["out_of_distribution"] == [True, None]
    assert table.scores == [1.0, None]
    assert table.columns["error"] == ["", "There is no score."]


def test_what_excel_makes_of_a_table(tmp_path):
    scored = [replace(ROWS[0], out_of_distribution=True), ROWS[2]]
    write_rows(scored, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    excels = [[c.replace(".", ",") if c[:1].isdigit() else c.upper() for c in r[1:]] for r in rows]
    lines = [header, *([r[0], *e] for r, e in zip(rows, excels, strict=True)), [""] * len(header)]
    for name, encoding, delimiter in (
        ("t.csv", "utf-8-sig", ";"),
        ("t.txt", "utf-16", "\t"),
        ("t.tsv", "utf-8", "\t"),
    ):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows(lines)
        (tmp_path / name).write_bytes((text.getvalue() + "\r\n").encode(encoding))
        table = read_scores(tmp_path / name)
        expected = table_of(scored, "").columns
        for column in (
            "path",
            "score",
            "crop_std",
            "width",
            "height",
            "out_of_distribution",
            "seconds",
        ):
            assert table.columns[column] == expected[column]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_score_that_is_no_number_is_an_error_that_names_it(tmp_path, value):
    (tmp_path / "t.csv").write_text(f"path,score\na.jpg,1\nb.jpg,{value}\n")
    table = read_scores(tmp_path / "t.csv")
    assert table.scores == [1.0, None]
    assert table.columns["error"] == ["", f"Its score is {value}, which is not a number."]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.doc", "", r"ends in '\.doc'; give .* \.csv, \.tsv, \.txt, \.jsonl, \.parquet"),
        ("t.csv", "path;score\na;b\n", "line 2 has 'b' in the column 'score', .*with semicolons"),
        ("t.csv", "path;mos\na;1\n", "no score column 'score'.*with semicolons"),
        (
            "t.csv",
            "path,score,out_of_distribution\na,1,ja\n",
            "'ja' .* not True or False",
        ),
        ("t.csv", "", "is empty"),
        ("t.csv", "score,mos\n1,1\n", "needs a column of image names"),
        ("t.csv", "path,score\na,1,2\n", "header's 2 cells, but 1 do not .line 2.*with commas"),
        ("t.csv", "path,score\na,1_0\n", "'1_0' in the column 'score'"),
        ("t.csv", "path,score\n", "has no rows"),
        ("t.csv", "path,score\n,1\n", "a row without a path"),
        ("t.jsonl", "{", "line 1 is not a JSON object"),
        ("t.jsonl", json.dumps({"path": "a", "score": 1}) + "\n[]\n", "line 2"),
        ("t.jsonl", "", "has no rows"),
        ("t.parquet", "PAR1 no", "unreadable Parquet file"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(TableError, match=sentence):
        read_scores(tmp_path / name)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(TableError, match=r"There is no table .*gone\.csv"):
        read_scores(tmp_path / "gone.csv")


@pytest.mark.parametrize("ending", ENDINGS)
def test_random_bytes_never_escape_as_another_error(tmp_path, ending):
    draw = random.Random(3)
    path = tmp_path / f"t.{ending}"
    for _ in range(50):
        path.write_bytes(draw.randbytes(draw.randrange(200)))
        with pytest.raises(TableError):
            read_scores(path)


def test_no_rows_are_a_table():
    assert len(table_of([], "nothing")) == 0


def test_any_table_of_names_and_scores_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("Image Name,MOS,Quality\na.jpg,3,0.5\nb.jpg,4,\n")
    (tmp_path / "t.jsonl").write_text(
        '{"image_name": "a.jpg", "quality": 0.5}\n{"image_name": "b.jpg", "quality": null}\n'
    )
    for name in ("t.csv", "t.jsonl"):
        table = read_scores(tmp_path / name, "quality")
        assert dict(table.columns) == {
            "path": ["a.jpg", "b.jpg"],
            "score": [0.5, None],
            "error": ["", "There is no score."],
        }


def test_spaces_belong_to_names(tmp_path):
    rows = [replace(ROWS[0], path=" a .jpg ")]
    for ending in ENDINGS:
        write_rows(rows, tmp_path / f"t.{ending}")
        assert read_rows(tmp_path / f"t.{ending}") == rows


@pytest.mark.parametrize("change", ["less", "more"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_goes_on_with_no_table_of_other_columns(tmp_path, ending, change):
    path = tmp_path / f"t.{ending}"
    frame = to_arrow(ROWS).to_pandas()
    frame = frame.drop(columns="weights") if change == "less" else frame.assign(note="mine")
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    assert read_scores(path).paths == [row.path for row in ROWS]
    with pytest.raises(TableError, match="was not written by this command of this version"):
        read_rows(path)
