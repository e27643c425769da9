import numpy as np
import pytest
from PIL import Image

from qfm_iqm.culling.regions import LEAST_SIDE, MOST, SIDE, Regions, shift_between

from ..bursts import scene


def chw(pixels_HWC):
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1))


def part(picture, top, left, side=700):
    return chw(picture[top : top + side, left : left + side])


@pytest.fixture(scope="module")
def picture():
    return scene(5, 800)


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, -7), (-21, 16)])
def test_the_same_pixels_are_found_where_the_photo_has_moved(picture, down, across):
    first = part(picture, 50, 50)
    regions = Regions(first)
    assert len(regions.corners) == MOST
    assert regions.side == 700 // 3
    own, moved = list(regions.of(first)), list(regions.of(part(picture, 50 + down, 50 + across)))
    for expected, found in zip(own, moved, strict=True):
        assert np.array_equal(expected, found)
    top, left = regions.corners[0]
    assert np.array_equal(own[0], first[:, top : top + regions.side, left : left + regions.side])


def test_a_photo_of_half_the_size_is_brought_to_the_first_ones(picture):
    first = part(picture, 0, 0)
    half = Image.fromarray(first.transpose(1, 2, 0)).resize((350, 350), Image.Resampling.LANCZOS)
    regions = Regions(first)
    for expected, found in zip(regions.of(first), regions.of(chw(np.asarray(half))), strict=True):
        assert found.shape == expected.shape
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.8


def test_detail_is_preferred(picture):
    flat = np.full((900, 1200, 3), 128, np.uint8)
    flat[40:320, 800:1100] = picture[:280, :300]
    regions = Regions(chw(flat))
    top, left = regions.corners[0]
    assert top < 320
    assert left + regions.side > 800
    assert regions.side == SIDE


@pytest.mark.parametrize("shape", [(16, 16), (16, 900), (40, 17)])
def test_small_and_narrow_photos(shape):
    draw = np.random.default_rng(0)
    first, other = (draw.integers(0, 256, (3, *shape), np.uint8) for _ in range(2))
    regions = Regions(first)
    for found in regions.of(other):
        assert found.shape == (3, regions.side, regions.side)
        assert regions.side >= LEAST_SIDE


def test_shifts():
    draw = np.random.default_rng(0)
    image = draw.normal(size=(60, 90))
    for shift in ((0, 0), (4, -9), (-11, 2)):
        assert shift_between(image, np.roll(image, shift, (0, 1))) == shift
    assert shift_between(image, np.roll(image, 40, 1)) == (0, 0)  # too far
    assert shift_between(np.zeros((20, 30)), np.zeros((20, 30))) == (0, 0)
