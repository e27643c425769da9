"""`qfm calibrate`: a new model folder, clear refusals, and scores with their meaning."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.evaluation.reference import find_reference_statistics
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.folder import load_model, save_model, save_with_card


@pytest.fixture(scope="module")
def rated(tmp_path_factory, build_model):
    """A model on a scale of 0 to 100, and 110 small images rated 1 to 5 along its scores."""
    root = tmp_path_factory.mktemp("rated")
    model = build_model()
    model.card.label = LabelUnits(minimum=0, maximum=100)
    save_model(model, root / "model")
    draw = np.random.default_rng(3)
    values = {}
    for number in range(110):
        cells = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize((48, 48), Image.Resampling.BICUBIC)
        image.save(root / f"{number:03d}.png")
        values[f"{number:03d}.png"] = model.score(root / f"{number:03d}.png").value
    low, high = min(values.values()), max(values.values())
    write(root / "mos.csv", {name: v + draw.uniform(-1, 1) for name, v in values.items()})
    stars = {n: 1 + 4 * ((v - low) / (high - low)) ** 2 for n, v in values.items()}
    noisy = {n: float(np.clip(v + draw.normal(0, 0.2), 1, 5)) for n, v in stars.items()}
    write(root / "stars.csv", noisy)
    write(root / "few.csv", dict(list(noisy.items())[:20]))
    write(root / "reversed.csv", {n: 6 - v for n, v in noisy.items()})
    write(root / "same.csv", dict.fromkeys(noisy, 3))
    return root


def write(path, ratings):
    path.write_text("name,mos\n" + "".join(f"{n},{v}\n" for n, v in ratings.items()))


@pytest.fixture(scope="module")
def finished(rated):
    """The model with reference statistics, found on the rated images."""
    model = load_model(rated / "model")
    table = read_table(rated / "mos.csv")
    reference = find_reference_statistics(
        model, table, rated, seen=table, population="mos.csv", level=0.8
    )
    card = model.card.model_copy(update={"reference_statistics": reference})
    save_with_card(rated / "model", card, rated / "finished")
    return rated / "finished"


def test_scores_say_what_they_mean(qfm, rated, finished):
    scores = qfm("score", rated / "000.png", rated / "001.png", "-m", finished)
    assert scores.code == 0, scores.err
    for row in csv.DictReader(scores.out.splitlines()):
        assert float(row["mos_low"]) < float(row["score"]) < float(row["mos_high"])
        assert 0 <= float(row["percentile"]) <= 100
        assert row["out_of_distribution"] in ("True", "False")


def test_scores_are_shown_from_0_to_100(qfm, rated, tmp_path):
    card = json.loads((rated / "model" / "card.json").read_text())
    card["label"] |= {"maximum": 200.0}
    wide = tmp_path / "wide"
    wide.mkdir()
    (wide / "card.json").write_text(json.dumps(card))
    (wide / "model.safetensors").write_bytes((rated / "model" / "model.safetensors").read_bytes())
    values = []
    for model in (rated / "model", wide):
        (row,) = csv.DictReader(qfm("score", rated / "005.png", "-m", model).out.splitlines())
        assert (
            row["percentile"]
            == row["mos_low"]
            == row["mos_high"]
            == row["out_of_distribution"]
            == ""
        )
        values.append(float(row["score"]))
    assert values[0] == pytest.approx(2 * values[1], rel=1e-5)


@pytest.mark.parametrize("curve", ["isotonic", "logistic"])
def test_calibrate_to_stars(qfm, rated, finished, tmp_path, curve):
    out = tmp_path / "stars"
    answer = qfm(
        "calibrate",
        rated / "stars.csv",
        "--model",
        finished,
        "--scale",
        1,
        5,
        "--curve",
        curve,
        "--out",
        out,
    )
    assert answer.code == 0, answer.err
    assert "110 ratings" in answer.out
    assert ": better." in answer.out
    card = load_model(out).card
    assert card.label == LabelUnits(name="rating", minimum=1, maximum=5)
    assert card.calibration.kind == curve
    assert card.reference_statistics.interval.images == 110
    assert card.reference_statistics.interval.half_width < 0.8
    ratings = {
        row["name"]: float(row["mos"]) for row in csv.DictReader((rated / "stars.csv").open())
    }
    rows = list(csv.DictReader(qfm("score", rated, "-m", out).out.splitlines()))
    errors = [
        1 + float(row["score"]) / 25 - ratings[row["path"].rpartition("/")[2]] for row in rows
    ]
    assert len(errors) == 110
    assert np.sqrt(np.mean(np.square(errors))) < 0.3
    again = qfm("calibrate", rated / "stars.csv", "--model", out, "--out", tmp_path / "twice")
    assert again.code == 2
    assert "already calibrated" in again.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["few.csv", "--scale", 1, 5], "at least 30 ratings, but there are 20"),
        (["same.csv"], "are equal"),
        (["reversed.csv"], "fall as the scores rise"),
        (["stars.csv", "--scale", 1, 3], "lie beyond the scale from 1 to 3"),
        (["stars.csv", "--scale", 5, 1], "--scale 5 1: give the lower end first"),
        (["stars.csv", "--scale", 1, 1], "--scale 1 1: give two different, finite ends"),
        (["stars.csv", "--scale", "nan", 5], "--scale nan 5: give two different, finite ends"),
        (["gone.csv"], "gone.csv"),
    ],
)
def test_ratings_that_cannot_be_used_are_one_sentence(qfm, rated, tmp_path, arguments, sentence):
    table, *more = arguments
    answer = qfm(
        "calibrate", rated / table, "--model", rated / "model", *more, "--out", tmp_path / "new"
    )
    assert answer.code == 2
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_low_ratings_may_be_the_good_ones(qfm, rated, tmp_path):
    out = tmp_path / "new"
    answer = qfm(
        "calibrate", rated / "reversed.csv", "--model", rated / "model",
        "--lower-is-better", "--scale", 1, 5,
        "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    plain, calibrated = load_model(rated / "model"), load_model(out)
    assert not calibrated.card.label.higher_is_better
    for one, other in (("000.png", "001.png"), ("002.png", "003.png")):
        apart = [m.score(rated / one).value - m.score(rated / other).value
                 for m in (plain, calibrated)]  # fmt: skip
        assert apart[0] * apart[1] >= 0


def test_a_calibrated_model_keeps_the_exports_of_its_weights(qfm, rated, tmp_path):
    # Noise has no real quality; it is enough that ratings rise with scores.
    names = sorted(path.name for path in rated.glob("0[0-3]?.png"))
    scores = qfm("score", *(rated / name for name in names))
    values = [float(row["score"]) for row in csv.DictReader(scores.out.splitlines())]
    write(rated / "rising.csv", dict(zip(names, np.clip(values, 0, 100), strict=True)))
    done = qfm("calibrate", rated / "rising.csv", "--scale", 0, 100, "--out", tmp_path / "mine")
    assert done.code == 0, done.err
    runtimes = {}
    for runtime in ("onnx", "torch"):
        again = qfm("score", rated / names[0], "-m", tmp_path / "mine", "--runtime", runtime)
        (runtimes[runtime],) = csv.DictReader(again.out.splitlines())
    plain = qfm("score", rated / names[0], "-m", tmp_path / "mine")
    assert next(csv.DictReader(plain.out.splitlines()))["runtime"] == "onnx"
    onnx, torch = (float(runtimes[runtime]["score"]) for runtime in ("onnx", "torch"))
    assert onnx == pytest.approx(torch, abs=0.05)


def test_scores_of_a_calibrated_model_are_not_mixed_with_those_of_its_model(qfm, rated, tmp_path):
    plain, mine, table = rated / "model", tmp_path / "mine", tmp_path / "scores.csv"
    options = ("--model", plain, "--scale", 1, 5)
    for number, kind in enumerate(("isotonic", "logistic")):
        out = (mine, tmp_path / "other")[number]
        done = qfm("calibrate", rated / "stars.csv", *options, "--curve", kind, "--out", out)
        assert done.code == 0, done.err
    names = [load_model(folder).card.name for folder in (plain, mine, tmp_path / "other")]
    assert len(set(names)) == 3
    assert all(name.startswith(f"{names[0]}-calibrated-") for name in names[1:])
    assert qfm("score", rated / "000.png", "-m", plain, "-o", table).code == 0
    for asked, sentence in (
        (("score", "--out", table, "--resume"), "has rows with model ="),
        (("gate", "--baseline", table, "--max-drop", 1), "was scored with model"),
        (("report", "--out", tmp_path / "r.html"), "did not score these images"),
    ):
        what = table if asked[0] == "report" else rated / "001.png"
        answer = qfm(asked[0], what, *asked[1:], "-m", mine)
        assert answer.code == 2
        assert sentence in answer.err
