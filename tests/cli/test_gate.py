import csv
import json
import shutil
from importlib import resources
from xml.etree import ElementTree

import pytest
from PIL import Image

EXPORT = resources.files("qfm_iqm.pretrained") / "default" / "onnx"


@pytest.fixture
def scored(qfm, photo_folder, tiny_model_folder, tmp_path):
    """A folder of photos, their scores, and the middle one of these."""
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    qfm("score", folder, "-m", tiny_model_folder, "-o", tmp_path / "before.csv")
    with (tmp_path / "before.csv").open() as file:
        scores = sorted(float(row["score"]) for row in csv.DictReader(file))
    return folder, scores


def test_codes_and_files(qfm, scored, tiny_model_folder, tmp_path):
    folder, scores = scored
    options = [
        "-m",
        tiny_model_folder,
        "--junit",
        tmp_path / "t.xml",
        "--json",
        tmp_path / "t.json",
    ]
    answer = qfm("gate", folder, "--min", scores[0], *options)
    assert answer.code == 0
    assert "12 passed (score >= " in answer.err
    limit = (scores[3] + scores[4]) / 2
    answer = qfm("gate", folder, "--min", limit, *options)
    assert answer.code == 1
    assert "8 passed, 4 failed" in answer.err
    assert answer.err.count("is below the limit of") == 4
    suite = ElementTree.parse(tmp_path / "t.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("12", "4")
    found = json.loads((tmp_path / "t.json").read_text())
    assert sorted(image["score"] for image in found["images"]) == scores
    assert found["exit_code"] == 1

    low = (scores[1] + scores[2]) / 2
    answer = qfm("gate", folder, "--min", limit, "--review", f"{low}:{limit}", *options)
    assert answer.code == 1
    assert "8 passed, 2 to be reviewed, 2 failed" in answer.err

    (folder / "broken.jpg").write_text("no image")
    answer = qfm("gate", folder, "--min", scores[0], *options)
    assert answer.code == 2
    assert "1 could not be scored" in answer.err


def test_a_small_image_is_said_to_be_out_of_distribution(qfm, tiny_model_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for side in (47, 48):
        Image.effect_noise((60, side), 50).convert("RGB").save(folder / f"{side}.png")
    out = [tmp_path / "t.json", tmp_path / "t.xml"]
    answer = qfm(
        "gate", folder, "--min", 0, "-m", tiny_model_folder, "--json", out[0], "--junit", out[1]
    )
    assert answer.code == 0
    assert "Out of distribution: 1 of these." in answer.err
    images = json.loads(out[0].read_text())["images"]
    assert [image["out_of_distribution"] for image in images] == [True, None]
    said = [case.text for case in ElementTree.parse(out[1]).iter("system-out")]
    assert [text.endswith(", out of distribution") for text in said] == [True, False]


def test_a_baseline(qfm, scored, tiny_model_folder, tmp_path):
    folder, _scores = scored
    options = ["-m", tiny_model_folder, "--baseline", tmp_path / "before.csv", "--max-drop"]
    assert qfm("gate", folder, *options, 0).code == 0
    with (tmp_path / "before.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["score"] = str(float(rows[0]["score"]) + 3)
    with (tmp_path / "before.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    answer = qfm("gate", folder, *options, 2)
    assert answer.code == 1
    assert "is 3 worse than" in answer.err
    assert qfm("gate", folder, *options, 4).code == 0

    shutil.copy(folder / "photo_03.jpg", folder / "new.jpg")
    answer = qfm("gate", folder, *options, 4)
    assert answer.code == 0
    assert "12 passed, 1 to be reviewed, 1 had no baseline score" in answer.err


@pytest.mark.parametrize("model", ["default", EXPORT])
def test_scores_of_qfm_score_are_the_baseline_to_the_last_digit(qfm, photo_folder, tmp_path, model):
    before = tmp_path / "before.csv"
    assert qfm("score", photo_folder, "-m", model, "-o", before).code == 0
    found = tmp_path / "found.json"
    options = ["--baseline", before, "--max-drop", 0, "--json", found]
    answer = qfm("gate", photo_folder, "-m", model, *options)
    assert answer.code == 0, answer.err
    assert "12 passed (" in answer.err
    for image in json.loads(found.read_text())["images"]:
        assert image["score"] == image["baseline"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give --min, --max, --max-drop or --max-cause"),
        (["--max", 3], "better when higher: give --min, not --max"),
        (["--min", 3, "--review", "5"], "'5' is not a review band"),
        (["--min", 3, "--review", "5:4"], "The review band 5:4 is empty"),
        (["--min", 50, "--review", "10:20"], "The review band 10:20 must include the limit 50"),
        (["--max-drop", 1], "--baseline and --max-drop belong together"),
        (["--min", "nan"], "finite numbers, but nan was given"),
        (["--min", 3, "--max-megapixels", 0], "--max-megapixels must be a finite number"),
        (["--min", 3, "--max-megapixels", "inf"], "not inf"),
        (["--min", 3, "--junit", "a.json"], r"must end in .xml"),
        (
            ["--baseline", "gone.csv", "--max-drop", 1],
            "There is no table gone.csv",
        ),
    ],
)
def test_mistakes_are_one_sentence(qfm, photo_folder, tiny_model_folder, options, sentence):
    answer = qfm("gate", photo_folder, "-m", tiny_model_folder, *options)
    assert answer.code == 2
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


def test_an_empty_folder_is_a_mistake(qfm, tmp_path, tiny_model_folder):
    answer = qfm("gate", tmp_path, "--min", 1, "-m", tiny_model_folder)
    assert answer.code == 2
    assert "There is no image in" in answer.err
