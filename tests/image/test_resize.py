import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image import resize as fitting
from qfm_iqm.image.decode import opened, read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.image.resize import as_bytes, as_floats, decoding_bytes, read_resized

from .samples import MOST_HELD

REDUCING = Preprocessing(crop=32, shorter_side=40)
KEEPING = Preprocessing(crop=32)
SQUEEZING = Preprocessing(crop=32, squeeze=(40, 56))


def encoded(width, height, *, mode="RGB", kind="PNG", orientation=1, seed=0, **options):
    draw = np.random.default_rng(seed)
    bands = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,), "LA": (2,)}
    if mode == "I;16":
        pixels = draw.integers(0, 65536, (height, width), dtype=np.uint16)
        image = Image.fromarray(pixels)
    elif mode == "P":
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).quantize(32)
    else:
        pixels = draw.integers(0, 256, (height, width, *bands[mode]), dtype=np.uint8)
        image = Image.fromarray(pixels, mode)
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **options)
    return file.getvalue()


def assert_as_read_whole(content, preprocessing):
    fitted = read_resized(content, preprocessing)
    image = read_image(content)
    expected = resize_and_pad(image, preprocessing).numpy()
    assert (fitted.height, fitted.width) == image.shape[-2:]
    np.testing.assert_array_equal(as_floats(fitted.pixels), expected)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    orientation=st.integers(1, 8),
    strip=st.sampled_from([1, 100, 777, 1 << 20]),
    preprocessing=st.sampled_from([REDUCING, KEEPING, SQUEEZING]),
)
def test_strips_give_what_the_whole_image_gives(width, height, orientation, strip, preprocessing):
    content = encoded(width, height, orientation=orientation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "STRIP_PIXELS", strip)
        assert_as_read_whole(content, preprocessing)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("I;16", "PNG"),
     ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"), ("I;16", "TIFF"), ("RGB", "TIFF")],
)  # fmt: skip
@pytest.mark.parametrize("preprocessing", [REDUCING, KEEPING])
def test_every_mode(mode, kind, preprocessing, monkeypatch):
    monkeypatch.setattr(fitting, "STRIP_PIXELS", 500)
    assert_as_read_whole(encoded(90, 70, mode=mode, kind=kind), preprocessing)


def test_a_profile_is_applied_strip_by_strip(monkeypatch):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    monkeypatch.setattr(fitting, "STRIP_PIXELS", 500)
    assert_as_read_whole(encoded(90, 70, icc_profile=srgb), REDUCING)
    # A profile with sRGB's red and green primaries swapped: the right result is known.
    swapped = srgb.replace(b"rXYZ", b"swap", 1).replace(b"gXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"swap", b"gXYZ", 1)
    content = encoded(90, 70, icc_profile=swapped)
    plain = read_resized(encoded(90, 70), KEEPING).pixels.astype(int)
    found = read_resized(content, KEEPING).pixels.astype(int)
    assert np.abs(found - plain[[1, 0, 2]]).max() <= 2
    assert np.abs(found - plain).mean() > 20
    assert_as_read_whole(content, REDUCING)
    assert_as_read_whole(content, KEEPING)


def test_eight_bits_stay_eight_bits():
    assert read_resized(encoded(50, 60), KEEPING).pixels.dtype == np.uint8
    assert read_resized(encoded(50, 60), REDUCING).pixels.dtype == np.uint8
    assert read_resized(encoded(50, 60, mode="I;16"), KEEPING).pixels.dtype == np.float32


def test_floats_and_bytes_are_of_each_other():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(as_bytes(as_floats(levels)), levels)
    assert as_bytes(levels) is levels
    assert as_bytes(as_floats(levels) + np.float32(0.4 / 255)).max() == 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_admission_is_asked_before_the_pixels_are_decoded(kind):
    asked = []

    def refuse(needed):
        asked.append(needed)
        raise ImageError("it is too much")

    content = encoded(600, 500, kind=kind)
    content = bytearray(content if kind == "WEBP" else content[:-9000])
    content[len(content) // 2] ^= 1
    with pytest.raises(ImageError, match=r"cannot read 'a.img': it is too much"):
        read_resized(bytes(content), KEEPING, name="a.img", admit=refuse)
    assert asked[0] >= 600 * 500 * 4


REFUSING = """
import sys
from qfm_iqm.errors import ImageError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.resize import read_resized

def refuse(needed):
    raise ImageError(f"it takes {needed}")

content = sys.stdin.buffer.read()
before = most_held()
try:
    read_resized(content, Preprocessing(crop=32), admit=refuse)
except ImageError as error:
    print(most_held() - before, str(error).rpartition(" ")[2])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux")
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_that_is_not_admitted_takes_no_memory(kind):
    """Measured in a separate process: decoded it would take 64 MB."""
    file = io.BytesIO()
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {"compress_level": 1}
    Image.new("L", (8000, 8000)).save(file, kind, **options)
    command = [sys.executable, "-c", MOST_HELD + REFUSING]
    done = subprocess.run(command, input=file.getvalue(), capture_output=True, check=True)
    grown, needed = map(int, done.stdout.split())
    assert grown < 20_000  # kilobytes
    assert needed > 64_000_000


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("preprocessing", [REDUCING, KEEPING, SQUEEZING])
def test_an_orientation_that_follows_the_pixels_is_applied(orientation, preprocessing):
    before = encoded(90, 70, orientation=orientation)
    start = before.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(before[start : start + 4])
    place = before.index(b"IEND") - 4
    after = before[:start] + before[end:place] + before[start:end] + before[place:]
    assert len(after) == len(before)
    assert_as_read_whole(after, preprocessing)
    np.testing.assert_array_equal(
        read_resized(after, preprocessing).pixels, read_resized(before, preprocessing).pixels
    )


@pytest.mark.parametrize("preprocessing", [REDUCING, KEEPING])
def test_the_estimate_holds_however_the_image_is_turned(preprocessing):
    estimates = set()
    for size in ((70, 90), (90, 70)):
        with opened(encoded(*size)) as picture:
            estimates.add(decoding_bytes(picture, preprocessing))
    assert len(estimates) == 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_the_estimate_grows_with_the_pixels(options, monkeypatch):
    monkeypatch.setattr(fitting, "STRIP_PIXELS", 1)

    def estimate(width, height, preprocessing):
        content = encoded(width, height, kind="JPEG", **options)
        with opened(content) as picture:
            return decoding_bytes(picture, preprocessing)

    fixed = 16 * 400
    least = 4 + (6 if options else 0)
    reduced = Preprocessing(crop=32, shorter_side=100)
    assert estimate(400, 300, reduced) - fixed >= 400 * 300 * least
    assert estimate(400, 300, KEEPING) - fixed >= 400 * 300 * (least + 3)


@pytest.mark.parametrize("mode", fitting._CANVAS)
def test_a_canvas_takes_what_pillow_takes(mode):
    image = Image.new(mode, (64, 8))
    if mode == "1":  # packed in `tobytes`, but not in memory
        image = image.convert("L")
    assert fitting._CANVAS[mode] == len(image.tobytes()) // (64 * 8)


@pytest.mark.parametrize(
    ("mode", "kind", "canvas"),
    [("I;16", "PNG", 2), ("I;16", "TIFF", 2), ("RGB", "PNG", 4), ("L", "PNG", 1)],
)
@pytest.mark.parametrize("preprocessing", [REDUCING, KEEPING])
def test_the_estimate_is_about_what_reading_takes(mode, kind, canvas, preprocessing):
    """Compared with numpy's real peak memory, and Pillow's canvas."""
    width, height = 700, 500
    content = encoded(width, height, mode=mode, kind=kind)
    asked = []
    tracemalloc.start()
    try:
        read_resized(content, preprocessing, admit=asked.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    peak += canvas * width * height
    with opened(content) as picture:
        assert picture.image.mode == mode
        estimate = decoding_bytes(picture, preprocessing)
    assert asked == [estimate]
    assert peak <= estimate <= 4 * peak


def test_damage_is_one_sentence():
    with pytest.raises(ImageError, match=r"cannot read 'x.jpg': its data end too early"):
        read_resized(encoded(99, 99, kind="JPEG")[:-900], REDUCING, name="x.jpg")
    fitted = read_resized(
        encoded(99, 99, kind="JPEG")[:-900], REDUCING, name="x.jpg", allow_truncated=True
    )
    assert (fitted.width, fitted.height) == (99, 99)


def photo(width, height, mode):
    """A photo of that size: detail down to single pixels, and smooth areas."""
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    image = Image.open(path).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 2, "progressive": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(645, 801), (320, 350), (170, 161)])
def test_a_large_jpeg_is_decoded_smaller(width, height, mode, options, orientation):
    """Close to the result of the whole decoded JPEG, unlike reduction by another filter."""
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    photo(width, height, mode).save(file, "JPEG", quality=90, exif=exif, **options)
    fitted = read_resized(file.getvalue(), REDUCING)
    whole = read_image(file.getvalue())
    assert (fitted.height, fitted.width) == whole.shape[-2:]
    expected = resize_and_pad(whole, REDUCING).numpy()
    assert fitted.pixels.shape == expected.shape
    difference = as_floats(fitted.pixels) - expected
    assert 0 < np.abs(difference).max() < 14 / 255
    assert np.abs(difference).mean() < 1.5 / 255


def test_a_layout_that_the_usual_decoder_refuses_is_decoded_smaller_too(monkeypatch):
    monkeypatch.setattr("qfm_iqm.image.formats.decoded_jpeg", lambda *_, **__: None)
    content = io.BytesIO()
    photo(645, 801, "RGB").save(content, "JPEG", quality=90)
    fitted = read_resized(content.getvalue(), REDUCING)
    assert (fitted.height, fitted.width) == (801, 645)
    expected = resize_and_pad(read_image(content.getvalue()), REDUCING).numpy()
    assert np.abs(as_floats(fitted.pixels) - expected).mean() < 1.5 / 255


def test_a_large_jpeg_takes_the_memory_of_a_small_one():
    content = io.BytesIO()
    photo(1600, 1600, "RGB").save(content, "JPEG")
    asked = []
    tracemalloc.start()
    try:
        read_resized(content.getvalue(), REDUCING, admit=asked.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    read = 2 * len(content.getvalue())  # the file, and the decoder's copy of it
    assert peak - read <= asked[0] < 1600 * 1600


def test_damage_of_a_large_jpeg_is_found():
    content = io.BytesIO()
    photo(645, 801, "RGB").save(content, "JPEG")
    cut = content.getvalue()[: len(content.getvalue()) // 2]
    with pytest.raises(ImageError, match="its data end too early"):
        read_resized(cut, REDUCING)
    fitted = read_resized(cut, REDUCING, allow_truncated=True)
    assert (fitted.pixels[:, -9:] == 128).mean() > 0.9  # gray where data are missing
