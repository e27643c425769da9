import numpy as np
import pytest
from skimage.restoration import estimate_sigma

from qfm_iqm.culling.measures import NAMES, TOPICS, measured
from qfm_iqm.image.distortions import distort

from ..bursts import scene

PICTURE = scene(7, 256)


def of(pixels_HWC):
    found = measured([np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))])
    assert np.isfinite(found).all()
    return dict(zip(NAMES, found, strict=True))


CLEAN = of(PICTURE)


@pytest.mark.parametrize(
    ("kind", "weak", "strong", "name", "sign"),
    [
        ("gaussian blur", 0.6, 2, "detail 1", -1),
        ("gaussian blur", 2, 5, "detail 4", -1),
        ("motion blur", 3, 9, "detail 1", -1),
        ("white noise", 0.001, 0.01, "noise", 1),
        ("white noise in color components", 0.001, 0.01, "color noise", 1),
        ("jpeg", 40, 10, "blockiness", 1),
        ("brighten", 0.2, 0.6, "mean", 1),
        ("low contrast", 0.8, 0.4, "contrast", -1),
        ("color saturation 1", 0.5, 0.1, "saturation", -1),
    ],
)
def test_each_measure_follows_what_it_is_named_for(kind, weak, strong, name, sign):
    little, much = (of(distort(PICTURE, kind, strength))[name] for strength in (weak, strong))
    assert sign * (little - CLEAN[name]) > 0
    assert sign * (much - little) > 0


def test_noise_is_that_of_another_estimator():
    flat = np.full((200, 200, 3), 120, np.uint8)
    for variance in (0.0005, 0.002, 0.008):
        noisy = distort(flat, "white noise", variance)
        luma = noisy @ np.array([0.299, 0.587, 0.114]) / 255
        own = np.exp(of(noisy)["noise"]) - 1 / 255
        assert own == pytest.approx(estimate_sigma(luma), rel=0.25)


def test_noise_is_not_taken_for_detail():
    noisy = of(distort(PICTURE, "white noise", 0.004))
    blurred = of(distort(PICTURE, "gaussian blur", 1.5))
    assert abs(noisy["detail 2"] - CLEAN["detail 2"]) < CLEAN["detail 2"] - blurred["detail 2"]


def test_black_and_white():
    half = PICTURE.copy()
    half[:64] = 0
    half[64:192] = 255
    assert of(half)["black"] ** 2 == pytest.approx(0.25, abs=0.02)
    assert of(half)["white"] ** 2 == pytest.approx(0.5, abs=0.05)


def test_every_measure_has_its_topic():
    assert sorted(name for names in TOPICS.values() for name in names) == sorted(NAMES)


@pytest.mark.parametrize("value", [0, 255])
def test_flat_regions_and_small_ones(value):
    of(np.full((16, 16, 3), value, np.uint8))
