"""A TIFF with incomplete compressed data is refused if its compression can tell."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image_uint8

from .samples import PHOTO, encoded, pixels, refusal

STRIPS = {"strip_size": 9000}
DEFLATE = encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate", **STRIPS)
JPEG = encoded(PHOTO, "TIFF", compression="jpeg", quality=85, **STRIPS)


def strips(content):
    """(start, end) of each strip."""
    tags = Image.open(io.BytesIO(content)).tag_v2
    places = zip(tags[273], tags[279], strict=True)
    return [(start, start + length) for start, length in places]


def test_whole_ones_are_read(tmp_path):
    assert len(strips(DEFLATE)) > 3
    np.testing.assert_array_equal(pixels(DEFLATE), PHOTO)
    by_pillow = np.asarray(Image.open(io.BytesIO(JPEG)))
    np.testing.assert_array_equal(pixels(JPEG), by_pillow)
    for content in (DEFLATE, JPEG):
        (tmp_path / "a.tif").write_bytes(content)
        np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), pixels(content))
    gray = encoded(PHOTO[..., 0], "TIFF", compression="jpeg", quality=85)
    np.testing.assert_array_equal(pixels(gray)[..., 0], np.asarray(Image.open(io.BytesIO(gray))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_deflate_data_give_the_same_pixels_or_none(data):
    start, end = data.draw(st.sampled_from(strips(DEFLATE)))
    place = data.draw(st.integers(start, end - 1))
    if data.draw(st.booleans()):
        changed = bytearray(DEFLATE)
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        last = min(end, place + data.draw(st.integers(1, 4000)))
        changed = DEFLATE[:place] + bytes(last - place) + DEFLATE[last:]
    try:
        found = read_image_uint8(bytes(changed))
    except ImageError:
        return
    np.testing.assert_array_equal(found.transpose(1, 2, 0), PHOTO)


@pytest.mark.parametrize("number", [0, 1, -1])
def test_zero_bytes_in_jpeg_data_are_refused(number):
    start, end = strips(JPEG)[number]
    middle = (start + end) // 2
    changed = JPEG[:middle] + bytes(end - middle) + JPEG[end:]
    refusal(changed)
    assert pixels(changed, allow_truncated=True).shape == PHOTO.shape
