"""Camera RAW files; `test_what_is_read` tests the table of formats."""

import io
import sys
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from qfm_iqm.errors import ImageError
from qfm_iqm.image.capture_time import capture_time
from qfm_iqm.image.decode import opened, read_image_uint8
from qfm_iqm.image.load import ReadingPolicy, read
from qfm_iqm.image.preprocess import Preprocessing, resize_and_pad
from qfm_iqm.image.resize import decoding_bytes, read_resized

from .raws import dng, jpeg_of
from .samples import PHOTO, refusal

SMALL = np.asarray(Image.fromarray(PHOTO).resize((96, 72)))
OTHER = np.asarray(Image.fromarray(255 - SMALL))  # a preview that differs from the photo


def pixels(content, **options):
    return read_image_uint8(content, **options).transpose(1, 2, 0)


def alike(one, other):
    """How strongly the pixels of two images of one size are correlated."""
    assert one.shape == other.shape
    return np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1]


def turned(image, orientation):
    """An image as Pillow shows it under an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("reading", ["preview", "develop"])
def test_without_a_preview_the_photo_is_developed(linear, reading):
    found = pixels(dng(PHOTO, linear=linear), raw=reading)
    assert alike(found, PHOTO) > (0.98 if linear else 0.95)  # a mosaic loses noise


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("linear", [False, True])
def test_orientation_is_applied_once(orientation, linear):
    options = {"orientation": orientation, "linear": linear}
    developed = pixels(dng(SMALL, linear=linear), raw="develop")
    found = pixels(dng(SMALL, preview=OTHER, **options), raw="develop")
    assert np.array_equal(found, turned(developed, orientation))
    decoded = np.asarray(Image.open(io.BytesIO(jpeg_of(OTHER))))
    found = pixels(dng(SMALL, preview=OTHER, **options))
    assert np.array_equal(found, turned(decoded, orientation))


def test_a_preview_that_lies_upright_already_stays_so():
    upright = np.ascontiguousarray(np.rot90(OTHER, -1))
    file = dng(SMALL, preview=upright, orientation=6)
    assert alike(pixels(file), upright) > 0.99
    found = read_resized(file, Preprocessing(crop=16, shorter_side=16))
    assert (found.width, found.height) == (72, 96)


@pytest.mark.parametrize(("part", "used"), [(1, True), (2, True), (3, False), (6, False)])
def test_a_preview_counts_from_half_the_photo_s_sides_on(part, used):
    preview = np.ascontiguousarray(OTHER[::part, ::part])
    for orientation in (1, 8):
        file = dng(SMALL, preview=preview, orientation=orientation)
        found = read_resized(file, Preprocessing(crop=16, shorter_side=16))
        whole = (96, 72) if orientation == 1 else (72, 96)
        assert (found.width, found.height) == whole
        expected = turned(preview if used else SMALL, orientation)
        expected = resize_and_pad(
            expected.transpose(2, 0, 1).astype(np.float32) / 255,
            Preprocessing(crop=16, shorter_side=16),
        )
        assert alike(found.pixels, expected) > 0.97
        assert pixels(file).shape[:2] == (
            expected_size(preview, orientation) if used else whole[::-1]
        )


def expected_size(preview, orientation):
    return preview.shape[:2] if orientation == 1 else preview.shape[1::-1]


def test_the_limit_of_pixels_is_the_photo_s():
    file = dng(SMALL, preview=np.ascontiguousarray(OTHER[::2, ::2]))
    assert pixels(file, max_pixels=72 * 96).shape == (36, 48, 3)
    assert "96 x 72 pixels exceed" in refusal(file, max_pixels=72 * 96 - 1)
    assert "exceed" in refusal(file, max_pixels=36 * 48, raw="develop")


def test_a_large_photo_is_developed_at_half_its_size():
    large = np.asarray(Image.fromarray(PHOTO).resize((640, 480), Image.Resampling.BICUBIC))
    preprocessing = Preprocessing(crop=64, shorter_side=96)
    found = read_resized(dng(large), preprocessing, raw="develop")
    assert (found.width, found.height) == (640, 480)
    whole = read_resized(
        Image.fromarray(pixels(dng(large), raw="develop")), preprocessing
    ).pixels.astype(int)
    assert np.abs(found.pixels - whole).mean() < 2
    needed = {}
    for linear in (False, True):
        with opened(dng(large, linear=linear), raw="develop") as picture:
            needed[linear] = decoding_bytes(picture, preprocessing)
    assert needed[False] < needed[True] / 2  # linear: all colors in each pixel, no half size


@pytest.mark.parametrize("reading", ["preview", "develop"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95, 0.999])
def test_a_file_cut_short_is_refused(part, reading):
    file = dng(SMALL, preview=OTHER)
    for allowed in (False, True):
        text = refusal(file[: int(len(file) * part)], raw=reading, allow_truncated=allowed)
        assert text.endswith("(a truncated file)")


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(
        [dng(SMALL, preview=OTHER), dng(SMALL, linear=True), dng(SMALL, orientation=6)]
    ),
    st.sampled_from(["preview", "develop"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_files_are_read_or_refused(file, reading, changes):
    data = bytearray(file)
    for place, value in changes:
        span = min(len(data), 1200) if value % 2 else len(data)
        data[int(place * (span - 1))] = value
    with suppress(ImageError):
        assert read_image_uint8(bytes(data), raw=reading, max_pixels=1_000_000).size > 0


def test_a_damaged_preview_is_said_to_be(tmp_path):
    file = bytearray(dng(SMALL, preview=OTHER))
    start = bytes(file).rindex(b"\xff\xda")  # the compressed data of the preview
    file[start + 20 : start + 400] = bytes(380)
    assert "damaged" in refusal(bytes(file))
    assert alike(pixels(bytes(file), raw="develop"), SMALL) > 0.9


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    for file in (dng(SMALL, preview=OTHER), b"FUJIFILMCCD-RAW 0201" + bytes(200)):
        assert refusal(file).endswith("pip install 'qfm-iqm[raw]'")


def test_the_name_of_a_file_does_not_matter(tmp_path):
    """A RAW file is recognized under any name; another file with such a name is not."""
    (tmp_path / "photo.jpg").write_bytes(dng(SMALL, preview=OTHER))
    (tmp_path / "photo.dng").write_bytes(jpeg_of(SMALL))
    policy = ReadingPolicy(Preprocessing(crop=16), raw="develop")
    raw, plain = (read(str(tmp_path / f"photo.{end}"), policy) for end in ("jpg", "dng"))
    assert alike(raw.pixels.transpose(1, 2, 0), SMALL) > 0.9
    assert alike(plain.pixels.transpose(1, 2, 0), SMALL) > 0.99


@pytest.mark.parametrize("reading", ["preview", "develop"])
@pytest.mark.parametrize("has_preview", [True, False])
def test_the_time_is_the_files_own(reading, has_preview):
    options = {"preview": OTHER} if has_preview else {}
    content = dng(SMALL, taken="2024:05:01 12:30:05", **options)
    with opened(content, raw=reading) as picture:
        assert capture_time(picture.image) == "2024-05-01T12:30:05"


def test_a_file_without_a_time_has_that_of_its_preview():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:05"
    exif[274] = 6  # a preview's orientation is not used
    content = dng(SMALL, preview=OTHER, preview_exif=exif)
    with opened(content) as picture:
        assert capture_time(picture.image) == "2024-05-01T12:30:05"
        assert picture.image.getexif()[274] == 1
    with opened(dng(SMALL, preview=OTHER)) as picture:
        assert capture_time(picture.image) == ""


@pytest.mark.parametrize("gray", [False, True])
def test_a_preview_of_plain_pixels_is_passed_over(gray):
    """libraw crashes on it once it has read the sensor's values, and calls gray pixels colored."""
    preview = OTHER[..., 0].copy() if gray else OTHER
    content = dng(SMALL, preview=preview, plain_preview=True)
    assert np.array_equal(pixels(content), pixels(content, raw="develop"))
    assert alike(pixels(content), SMALL) > 0.9
