"""The model that ships in the package: small, honest about itself, and right about degradation."""

from importlib import resources
from pathlib import Path

import pytest
import skimage

from qfm_iqm import load_model, read_image
from qfm_iqm.errors import ModelError
from qfm_iqm.image.distorting import DISTORTIONS, distort

PHOTOS = ("astronaut.png", "chelsea.png")


@pytest.fixture(scope="module")
def model():
    return load_model()


@pytest.fixture(scope="module")
def photos():
    folder = Path(skimage.__file__).parent / "data"
    return [read_image(folder / name) for name in PHOTOS]


def mean_score(model, images):
    return sum(model.score(image).value for image in images) / len(images)


def test_it_is_small():
    folder = resources.files("qfm_iqm") / "models" / "default"
    assert sum(len(file.read_bytes()) for file in folder.iterdir()) <= 10_000_000


def test_its_card_says_what_it_was_trained_on_and_how_good_it_is(model):
    card = model.card
    assert card.name == "default"
    assert card.training["backbone_weights"] == "random"
    assert "BIQ2021" in card.training["data"] and card.training["terms"]
    assert card.license and card.description
    measured = {(row.part, row.metric) for row in card.results}
    assert {("whole", "srcc"), ("subset_mean", "srcc")} <= measured
    assert all(row.ci_low <= row.value <= row.ci_high for row in card.results)


def test_its_scores_lie_within_the_scale_that_people_are_shown(model, photos):
    assert (model.card.label.shown.minimum, model.card.label.shown.maximum) == (0, 100)
    for photo in photos:
        assert 20 < model.score(photo).value < 95


def test_a_folder_of_that_name_does_not_hide_it(model, tmp_path, monkeypatch):
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_model("default").card == model.card
    with pytest.raises(ModelError, match="no model folder"):
        load_model("./default")


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_quality_falls_as_degradation_grows(model, photos, kind):
    clean = mean_score(model, photos)
    weak, strong = (
        mean_score(model, [distort(photo, kind, level) for photo in photos]) for level in (3, 5)
    )
    assert clean > weak > strong
