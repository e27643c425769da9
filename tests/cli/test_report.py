import csv
import json
import shutil
from importlib import resources

import pytest


def inlined(path):
    text = path.read_text(encoding="utf-8")
    block = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(block)


@pytest.fixture
def scored(qfm, photo_folder, tiny_model_folder, tmp_path, monkeypatch):
    """Photos and a broken file, scored into scores.csv of the working folder."""
    shutil.copytree(photo_folder, tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    qfm("score", "photos", "-m", tiny_model_folder, "-o", "scores.csv")
    return tmp_path


def test_a_table_becomes_a_page(qfm, scored, tiny_model_folder):
    (scored / "pages").mkdir()
    answer = qfm("report", "scores.csv", "-o", "pages/r.html", "--maps", 2, "-m", tiny_model_folder)
    assert answer.code == 0, answer.err
    assert "Written to pages/r.html" in answer.err
    data = inlined(scored / "pages" / "r.html")
    with (scored / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [str(score or "") for score in data["columns"]["score"]] == [r["score"] for r in rows]
    assert data["folders"] == [{"name": "photos/", "url": "../photos/"}]
    assert len(data["thumbnails"]) == 12
    worst = sorted((float(r["score"]), i) for i, r in enumerate(rows) if r["score"])[:2]
    assert set(data["maps"]) == {str(i) for _, i in worst}
    assert list(data["errors"]) == ["0"]


def test_two_tables_become_a_comparison(qfm, scored):
    lines = (scored / "scores.csv").read_text().splitlines()
    (scored / "later.csv").write_text("\n".join([*lines[:1], *reversed(lines[1:])]) + "\n")
    answer = qfm("report", "scores.csv", "later.csv", "-o", "c.html", "--thumbnails", 0)
    assert answer.code == 0, answer.err
    data = inlined(scored / "c.html")
    assert data["win_rate"]["n"] == 12
    assert set(data["changes"]) == {0}


def test_tables_that_excel_saved(qfm, scored):
    with (scored / "scores.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    numbers = {header.index(name) for name in ("score", "crop_std", "seconds")}
    german = [[c.replace(".", ",") if i in numbers else c for i, c in enumerate(r)] for r in rows]
    with (scored / "semicolons.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows([header, *german, [""] * len(header)])
    with (scored / "unicode.txt").open("w", newline="", encoding="utf-16") as file:
        csv.writer(file, delimiter="\t").writerows([header, *rows])
    pages = []
    for name in ("scores.csv", "semicolons.csv", "unicode.txt"):
        answer = qfm("report", name, "-o", "r.html", "--thumbnails", 0)
        assert answer.code == 0, answer.err
        data = inlined(scored / "r.html")
        pages.append({name: data[name] for name in ("columns", "folders", "errors", "rows")})
    assert pages[0] == pages[1] == pages[2]


def test_scoring_reports_at_once(qfm, scored, tiny_model_folder):
    options = ["-m", tiny_model_folder, "-o", "s.parquet", "--report", "r.html"]
    answer = qfm("score", "photos", *options)
    assert answer.code == 1  # one photo is broken
    data = inlined(scored / "r.html")
    assert data["meta"] == ["photos", "scored by tiny-test_vit"]
    assert len(data["maps"]) == len(data["thumbnails"]) == 12


def test_an_export_lends_its_scale_and_no_maps(qfm, scored):
    export = resources.files("qfm_iqm.pretrained") / "default" / "onnx"
    qfm("score", "photos", "-m", export, "-o", "scores.csv")
    answer = qfm("report", "scores.csv", "-o", "r.html", "-m", export)
    assert answer.code == 0, answer.err
    assert "is an exported model and draws no quality maps" in answer.err
    data = inlined(scored / "r.html")
    assert (data["maps"], data["label"]["maximum"]) == ({}, 100)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["gone.csv", "-o", "r.html"],
            "There is no table gone.csv",
        ),
        (["scores.csv", "-o", "r.pdf"], "its name must end in .html"),
        (["scores.csv", "-o", "gone/r.html"], "there is no folder gone"),
        (["scores.csv"] * 3 + ["-o", "r.html"], "one or two score tables, not 3"),
        (
            ["scores.csv", "-o", "r.html", "--threshold", "nan"],
            "--threshold must be a finite number",
        ),
        (["scores.csv", "-o", "r.html", "-m", "gone"], "There is no model 'gone'"),
    ],
)
def test_mistakes_are_one_sentence(qfm, scored, arguments, sentence):
    answer = qfm("report", *arguments)
    assert answer.code == 2
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (scored / "r.html").exists()
