import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.culling.layout import layout

from ..bursts import scene, taken_of


def of(pixels_HWC):
    return layout(np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)))


def jpeg(pixels_HWC, quality):
    content = io.BytesIO()
    Image.fromarray(pixels_HWC).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def test_photos_of_one_scene_are_alike_and_others_are_not():
    scenes = [scene(seed) for seed in range(6)]
    first = [of(taken_of(picture)) for picture in scenes]
    again = [of(jpeg(taken_of(picture, 5, 1.5, 0.7), 40)) for picture in scenes]
    similarity = np.array(first) @ np.array(again).T
    assert np.diag(similarity).min() > 0.6
    assert similarity[~np.eye(6, dtype=bool)].max() < 0.5


@given(st.integers(0, 1000), st.integers(1, 90), st.integers(1, 90))
def test_it_has_length_1_whatever_the_size(seed, height, width):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    assert np.linalg.norm(layout(pixels)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_photo_has_a_finite_layout(value):
    found = layout(np.full((3, 50, 60), value, np.uint8))
    assert np.isfinite(found).all()
