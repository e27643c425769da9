import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest

from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.scores import (
    POINTS,
    Place,
    curves,
    packed,
    scores_page,
    split_path,
    table_data,
)
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import ScoreTable, table_of
from qfm_iqm.scoring.video import FrameScore

UNITS = LabelUnits(minimum=0, maximum=100)


def row(path, score=50.0, error=""):
    status = "error" if error else "ok"
    return ScoreRow(
        path=path,
        score=None if error else score,
        crop_std=1.0,
        width=8,
        height=6,
        status=status,
        error=error,
        model="m",
    )


def inlined(page):
    block = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(block)


def test_columns_folders_and_errors():
    table = table_of([row("a/1.jpg"), row("b/1.jpg", error="broken"), row("a/2.jpg", 3.0)], "t")
    data = table_data(table, Place(Path("r.html"), Path()))
    assert data["rows"] == 3
    assert data["columns"]["folder"] == [0, 1, 0]
    assert data["columns"]["name"] == ["1.jpg", "1.jpg", "2.jpg"]
    assert data["columns"]["score"] == [50.0, None, 3.0]
    assert data["columns"]["model"] == {"all": "m"}
    assert [folder["name"] for folder in data["folders"]] == ["a/", "b/"]
    assert data["errors"] == {1: "broken"}
    # Columns that no row fills are left out, as for a card without reference statistics.
    left_out = ("sha256", "seconds", "percentile", "mos_low", "mos_high", "out_of_distribution")
    left_out += ("frames", "p10", "worst", "worst_at", "weights", "runtime", "precision")
    left_out += ("cause", "second_cause", *CAUSES)
    assert data["order"] == [name for name in table.columns if name not in left_out]
    assert {"path", "score", "status", "error"} <= set(data["order"])


@pytest.mark.parametrize("path", ["a.jpg", "/x/a.jpg", "x/y z/é.jpg", "./a.jpg", "../a", "x/"])
def test_a_path_is_its_two_parts(path):
    folder, name = split_path(path)
    assert folder + name == path
    assert "/" not in name


@pytest.mark.parametrize("folder", ["", "photos/", "../up/", "with space #?%/", "é/"])
def test_photos_are_found_from_where_the_report_lies(tmp_path, folder, monkeypatch):
    work = tmp_path / "work"
    out = tmp_path / "out" / "reports"
    work.mkdir()
    out.mkdir(parents=True)
    monkeypatch.chdir(work)
    place = Place(Path(os.path.relpath(out / "r.html")), Path())
    url = urlsplit(place.url(folder))
    assert not url.scheme
    assert not url.query
    assert not url.fragment
    found = os.path.normpath(os.fsencode(out) + b"/" + unquote_to_bytes(url.path))
    assert found == os.fsencode(os.path.normpath(work / folder))
    absolute = Place(out / "r.html", Path()).url(str(work) + "/")
    assert os.path.normpath(out / absolute) == str(work)


def test_names_that_are_no_text_have_a_url(tmp_path):
    folder = os.fsdecode(b"caf\xe9/")
    assert Place(tmp_path / "r.html", tmp_path).url(folder) == "caf%E9/"


def test_the_page_holds_thumbnails_of_what_can_be_read(photo_folder, tmp_path):
    names = sorted(path.name for path in photo_folder.iterdir())
    rows = [row(name, float(i)) for i, name in enumerate(names)] + [row("gone.jpg", 0.5)]
    place = Place(tmp_path / "r.html", photo_folder)
    page = scores_page(table_of(rows, "t"), place, UNITS, count=6)
    data = inlined(page)
    # Four of six for the worst, one of which is missing by now; two across the rest.
    assert list(map(int, data["thumbnails"])) == [0, 1, 2, 6, 11]
    assert data["label"]["maximum"] == 100
    assert data["meta"] == ["t", "scored by m", "MOS, 0 to 100"]


def test_ten_thousand_rows_are_compact(tmp_path):
    rows = [row(f"folder {i % 9}/photograph_{i:06}.jpg", i / 77) for i in range(10_000)]
    table = table_of(rows, "t")
    said = {"weights": ["0123456789abcdef" * 4], "runtime": ["onnx"], "precision": ["fp32"]}
    columns = dict(table.columns) | {name: value * 10_000 for name, value in said.items()}
    columns["out_of_distribution"] = [i % 50 == 0 for i in range(10_000)]
    table = ScoreTable("t", columns)
    page = scores_page(table, Place(tmp_path / "r.html", tmp_path), UNITS, count=0)
    assert len(page) < 600_000
    assert page.count("0123456789abcdef" * 4) == 1


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([], []),
        ([7], {"all": 7}),
        ([None] * 5, {"all": None}),
        ([True, False] * 4, {"values": [True, False], "codes": [0, 1] * 4}),
        (["a", None] * 4, {"values": ["a", None], "codes": [0, 1] * 4}),
        ([1.5, 2.5, 1.5], [1.5, 2.5, 1.5]),  # too short to save space
    ],
)
def test_columns_of_few_values_are_packed(column, expected):
    assert packed(column) == expected


def test_a_table_without_rows_or_options(tmp_path):
    table = ScoreTable("t", {"path": [], "score": [], "error": []})
    page = scores_page(table, Place(tmp_path / "r.html", tmp_path), LabelUnits())
    assert inlined(page)["columns"] == {"folder": [], "name": [], "score": []}


def test_a_short_curve_has_all_its_frames():
    frames = [FrameScore("b", time / 2, 10.0 + time) for time in range(5)]
    found = curves([FrameScore("other", 0.0, 1.0), *frames], ["a", "b"])
    assert found == {1: [[0, 0.5, 1, 1.5, 2], [10, 11, 12, 13, 14]]}


@pytest.mark.parametrize("count", [POINTS, POINTS + 1, 10_000])
def test_a_long_curve_keeps_its_mean(count):
    scores = np.random.default_rng(1).uniform(0, 100, count)
    frames = [FrameScore("a", float(time), score) for time, score in enumerate(scores.tolist())]
    times, points = curves(frames, ["a"])[0]
    assert len(times) == len(points) <= POINTS
    assert times == sorted(times)
    step = -(-count // POINTS)
    assert points[0] == pytest.approx(scores[:step].mean(), abs=0.01)
    assert points[-1] == pytest.approx(scores[step * (len(points) - 1) :].mean(), abs=0.01)
