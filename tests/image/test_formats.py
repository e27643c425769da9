import io
import struct
import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image, read_image_uint8

from .samples import (
    COLOR,
    FILES,
    GRAY,
    PHOTO,
    SMOOTH,
    encoded,
    floats,
    pixels,
    png,
    refusal,
    same_gray,
    tiff,
)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_give_their_very_pixels(kind):
    np.testing.assert_array_equal(pixels(encoded(COLOR, kind)), COLOR)
    np.testing.assert_array_equal(pixels(encoded(GRAY, kind)), same_gray(GRAY))


def test_compressed_tiff_and_lossless_webp_and_jpeg2000():
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        tiff_bytes = encoded(COLOR, "TIFF", compression=compression)
        np.testing.assert_array_equal(pixels(tiff_bytes), COLOR)
    np.testing.assert_array_equal(pixels(encoded(COLOR, "WEBP", lossless=True)), COLOR)
    if features.check("jpg_2000"):
        np.testing.assert_array_equal(pixels(encoded(COLOR, "JPEG2000")), COLOR)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_is_near_the_original(options):
    result = pixels(encoded(SMOOTH, "JPEG", quality=95, **options))
    assert np.abs(result.astype(int) - SMOOTH).mean() < 3


def test_gray_jpeg_is_gray():
    result = pixels(encoded(SMOOTH[..., 0], "JPEG", quality=95))
    assert (result == result[..., :1]).all()
    assert np.abs(result[..., 0].astype(int) - SMOOTH[..., 0]).mean() < 3


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_modern_lossy_formats(kind):
    if not features.check(kind.lower()):
        pytest.skip(f"this Pillow has no {kind}")
    result = pixels(encoded(SMOOTH, kind, quality=95))
    assert np.abs(result.astype(int) - SMOOTH).mean() < 5


def test_heic_through_its_extra():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(SMOOTH)).save(file, quality=95)
    assert np.abs(pixels(file.getvalue()).astype(int) - SMOOTH).mean() < 5


def test_heic_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'qfm-iqm\[heic\]'"):
        read_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))


def test_one_bit_images():
    bits = GRAY > 127
    image = Image.fromarray(bits)
    assert image.mode == "1"
    for kind in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels(encoded(image, kind)), same_gray(bits * 255))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_stands_for_all(kind):
    first, second = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    result = pixels(data).astype(int)
    assert np.abs(result - np.array([255, 0, 0])).max() <= 2  # MPO is a JPEG


# ---- size ----


def test_no_pixels():
    assert "no pixels (0 x 5)" in refusal(Image.new("RGB", (0, 5)))
    refusal(png(0, 5, 8, 2, []))


def test_the_pixel_limit_is_checked_before_decoding():
    assert pixels(encoded(COLOR, "PNG"), max_pixels=54).shape == (6, 9, 3)
    refusal(encoded(COLOR, "PNG"), max_pixels=53)
    bomb = png(60000, 60000, 8, 2, [])  # decoding it would first allocate 10 GB
    assert "60000 x 60000 pixels exceed the limit of 250 megapixels" in refusal(bomb)
    text = refusal(Image.new("L", (1000, 100)), max_pixels=99_000)
    assert text.endswith("its 1000 x 100 pixels exceed the limit of 0.099 megapixels")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_pillows_own_pixel_limit_does_not_interfere(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # a warning at 11, an error at 21
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(encoded(COLOR, kind)).shape == (6, 9, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


# ---- damage ----


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_image_is_refused(name):
    refusal(FILES[name][: len(FILES[name]) * 6 // 10])


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "gif", "bmp", "tiff"])
def test_a_truncated_image_can_be_read_as_far_as_it_goes(name):
    whole = floats(FILES[name])
    part = floats(FILES[name][: len(FILES[name]) * 6 // 10], allow_truncated=True)
    assert part.shape == whole.shape
    # A progressive file holds a rougher version of the whole, the others the upper rows.
    tolerance = 0.1 if name == "progressive" else 0
    rows = slice(-48, None) if name == "bmp" else slice(48)  # BMP stores the last row first
    assert np.abs(part[rows] - whole[rows]).mean() <= tolerance


@pytest.mark.parametrize("name", FILES)
def test_allowing_truncation_changes_nothing_in_a_whole_image(name):
    np.testing.assert_array_equal(pixels(FILES[name], allow_truncated=True), pixels(FILES[name]))


def test_a_truncated_turned_tiff_is_turned():
    data = tiff(192, 144, [8] * 3, 2, PHOTO.tobytes(), orientation=6)
    part = pixels(data[: len(data) // 2], allow_truncated=True)
    np.testing.assert_array_equal(part[:, -60:], np.rot90(PHOTO, -1)[:, -60:])


def reads_or_refuses(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = read_image_uint8(data, max_pixels=1_000_000, **options)
        except ImageError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert image.shape[0] == 3
            assert image.size > 0


SIGNATURES = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*"]

SIGNATURES += [b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypavif", b"\0\0\0\x18ftypmif1", b"P6 ", b"Pf"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SIGNATURES), st.binary(max_size=200), st.booleans())
@example(b"II*\0", struct.pack("<IHHHII", 8, 1, 277, 3, 1, 99), False)
def test_any_bytes_are_read_or_refused(signature, body, allow_truncated):
    reads_or_refuses(signature + body, allow_truncated=allow_truncated)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    st.booleans(),
)
def test_damaged_files_are_read_or_refused(name, keep, changes, allow_truncated):
    data = bytearray(FILES[name])
    for place, value in changes:
        # Half of the changes go into the first 100 bytes, where the structure is.
        span = min(len(data), 100) if value % 2 else len(data)
        data[int(place * (span - 1))] = value
    end = len(data) if keep > 0.5 else int(2 * keep * len(data))
    reads_or_refuses(bytes(data[:end]), allow_truncated=allow_truncated)
