import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image, read_image_uint8
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.resize import read_resized

from .samples import COLOR, GRAY, SMOOTH, encoded, floats, pixels, refusal, tiff


def test_float_values_are_the_pixels_over_255():
    np.testing.assert_allclose(floats(encoded(COLOR, "PNG")), COLOR / 255, atol=1e-7)


# ---- orientation ----

UPRIGHT = {  # what a viewer must do with the stored pixels, by the EXIF standard's wording
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.transpose(1, 0, 2), 2),
    8: lambda stored: np.rot90(stored, 1),
}


def exif(orientation):
    block = Image.Exif()
    block[274] = orientation
    return block.tobytes()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    data = encoded(COLOR, "PNG", exif=exif(orientation))
    np.testing.assert_array_equal(pixels(data), COLOR)
    for reduced in (None, 16):
        preprocessing = Preprocessing(crop=16, shorter_side=reduced)
        fitted = read_resized(encoded(SMOOTH, "PNG", exif=exif(orientation)), preprocessing)
        plain = read_resized(encoded(SMOOTH, "PNG"), preprocessing)
        np.testing.assert_array_equal(fitted.pixels, plain.pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation):
    expected = UPRIGHT[orientation](COLOR)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(COLOR, kind, exif=exif(orientation), **options)
        np.testing.assert_array_equal(pixels(data), expected)
    plain = tiff(9, 6, [8] * 3, 2, COLOR.tobytes(), orientation=orientation)
    np.testing.assert_array_equal(pixels(plain), expected)
    packed = encoded(COLOR, "TIFF", tiffinfo={274: orientation}, compression="tiff_lzw")
    np.testing.assert_array_equal(pixels(packed), expected)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(packed))), expected)
    photo = pixels(encoded(SMOOTH, "JPEG", quality=95, exif=exif(orientation)))
    unturned = pixels(encoded(SMOOTH, "JPEG", quality=95))
    np.testing.assert_array_equal(photo, UPRIGHT[orientation](unturned))


@pytest.mark.parametrize("block", [exif(0), exif(9), exif(6)[:20], b"Exif\0\0II*\0garbage"])
def test_a_senseless_orientation_counts_as_upright(block):
    np.testing.assert_array_equal(
        pixels(encoded(SMOOTH, "JPEG", exif=block)), pixels(encoded(SMOOTH, "JPEG"))
    )


# ---- sources ----


def test_sources_that_cannot_be_read_are_not_called_damaged(tmp_path):
    place = tmp_path / "photo.png"
    Image.new("RGB", (40, 40)).save(place)
    with Image.open(place) as closed_image, place.open("rb") as closed_file:
        pass
    with place.open(encoding="latin-1") as text, (tmp_path / "new").open("wb") as written:
        for source, reason in (
            (closed_image, "it was closed before"),
            (closed_file, "it was closed before"),
            (text, "its stream yields text; open it in binary mode"),
            (written, "its stream is open for writing only"),
        ):
            with pytest.raises(ImageError, match=f"^cannot read the image: {reason}$"):
                read_image(source)


def test_all_kinds_of_source_agree(tmp_path):
    data = encoded(COLOR, "PNG")
    path = tmp_path / "a photo.png"
    path.write_bytes(data)
    misnamed = tmp_path / "odd\nname \U0001f600.jpg"
    misnamed.write_bytes(data)
    sources = [path, str(path), misnamed, data, bytearray(data), memoryview(data)]
    for source in [*sources, Image.fromarray(COLOR), Image.open(path)]:
        np.testing.assert_array_equal(pixels(source), COLOR)
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    np.testing.assert_array_equal(floats(stream), COLOR / np.float32(255))
    assert not stream.closed


def test_a_pillow_image_is_not_changed():
    image = Image.fromarray(np.dstack([COLOR, GRAY]))
    image.getexif()[274] = 6
    before = image.copy()
    assert pixels(image).shape == (9, 6, 3)
    assert image == before
    assert image.getexif()[274] == 6


def test_the_result_belongs_to_the_caller():
    image = Image.fromarray(COLOR)
    read_image_uint8(image).fill(0)
    np.testing.assert_array_equal(np.asarray(image), COLOR)


def test_no_file_stays_open(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(COLOR, "PNG"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read_image(path)
        path.write_bytes(b"not an image")
        with pytest.raises(ImageError):
            read_image(path)


# ---- refusals ----


def test_what_is_no_image(tmp_path):
    path = tmp_path / "two\nlines.jpg"
    path.write_text("hello")
    assert "not an image of a known format" in refusal(path)
    assert repr(str(path)) in refusal(path)
    path.write_bytes(b"")
    assert "it is empty" in refusal(path)
    assert refusal(b"") == "cannot read the bytes: it is empty"
    assert "it is empty" in refusal(io.BytesIO())
    assert "not an image" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert "text" in refusal(io.StringIO("hello"))
    assert "not a int" in refusal(5)


def test_what_is_no_file(tmp_path, monkeypatch):
    assert "it is a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "missing.jpg")
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in refusal(tmp_path / "file" / "below.jpg")
    assert "not a valid file name" in refusal("null\0.jpg")
    refusal("x" * 5000)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", denied)
    assert "no permission" in refusal(str(tmp_path / "file"))


def test_no_pixels_allowed():
    with pytest.raises(ValueError, match="max_pixels"):
        read_image(encoded(COLOR, "PNG"), max_pixels=0)
