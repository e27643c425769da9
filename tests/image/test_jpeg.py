"""Truncated JPEGs are refused and whole ones read, whatever wrote or surrounds them."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image_uint8

from .samples import PHOTO, encoded, pixels, refusal

EOI = b"\xff\xd9"
KINDS = {
    "plain": {},
    "fine": {"quality": 97, "subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 5},
    "optimized": {"optimize": True},
}
FILES = {name: encoded(PHOTO, "JPEG", **({"quality": 85} | more)) for name, more in KINDS.items()}
FILES["gray"] = encoded(PHOTO[..., 0], "JPEG", quality=85)
FILES["cmyk"] = encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=85)
SEQUENTIAL = sorted(FILES.keys() - {"progressive"})


def by_pillow(content):
    """Pillow's own pixels, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def data_start(content):
    """Where the first compressed data begin."""
    place = content.index(b"\xff\xda")
    return place + 2 + int.from_bytes(content[place + 2 : place + 4])


# ---- whole ----


@pytest.mark.parametrize("name", sorted(FILES))
def test_pixels_are_pillows_to_the_bit(name):
    np.testing.assert_array_equal(pixels(FILES[name]), by_pillow(FILES[name]))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 50)])
def test_layouts_are_pillows(subsampling, mode, size):
    image = Image.fromarray(PHOTO).resize(size).convert(mode)
    content = encoded(image, "JPEG", subsampling=subsampling)
    np.testing.assert_array_equal(pixels(content), by_pillow(content))


def test_cmyk_in_luma_and_chroma_is_pillows():
    content = bytearray(FILES["cmyk"])
    content[content.index(b"Adobe") + 11] = 2  # labels the same data YCCK
    np.testing.assert_array_equal(pixels(bytes(content)), by_pillow(bytes(content)))


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("missing", [1, 2])
def test_only_the_end_marker_is_missing(name, missing):
    np.testing.assert_array_equal(pixels(FILES[name][:-missing]), by_pillow(FILES[name]))


def with_segment(content, marker, body):
    segment = bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body
    return content[:2] + segment + content[2:]


def with_nonsense_in_scan_header(content):
    place = data_start(content)
    return content[: place - 3] + b"\0\0\0" + content[place:]


SURROUNDED = {
    "junk after the end": lambda c: c + bytes(range(256)) * 9,
    "zeros after the end": lambda c: c + bytes(9000),
    "another image after the end": lambda c: c + c,
    "zeros before the end": lambda c: c[:-2] + bytes(700) + EOI,
    "a byte before the end": lambda c: c[:-2] + b"\x7f" + EOI,
    "fill bytes before the end": lambda c: c[:-2] + b"\xff" * 300 + EOI,
    "junk between segments": lambda c: c[:20] + b"junk" + c[20:],
    "a comment": lambda c: with_segment(c, 0xFE, b"comment" * 900),
    "an image within": lambda c: with_segment(c, 0xED, FILES["plain"][:60_000]),
    "an unknown version": lambda c: c.replace(b"JFIF\0\1", b"JFIF\0\x07"),
    "nonsense in the scan header": with_nonsense_in_scan_header,
}


@pytest.mark.parametrize("how", SURROUNDED)
@pytest.mark.parametrize("name", ["plain", "optimized", "restarts"])
def test_what_surrounds_whole_data_does_not_matter(name, how):
    changed = SURROUNDED[how](FILES[name])
    assert changed != FILES[name]
    np.testing.assert_array_equal(pixels(changed), by_pillow(FILES[name]))


@pytest.mark.parametrize("progressive", [False, True])
def test_plain_areas_are_no_damage(progressive):
    """Their data are long runs of zero bytes, if the tables are made for them."""
    page = np.full((1500, 1500, 3), 255, np.uint8)
    page[:144, :192] = PHOTO
    content = encoded(page, "JPEG", quality=85, optimize=True, progressive=progressive)
    assert progressive or bytes(200) in content
    np.testing.assert_array_equal(pixels(content), by_pillow(content))


def test_pillows_own_images_are_read_and_stay_as_they_were(tmp_path):
    (tmp_path / "a.jpg").write_bytes(FILES["plain"])
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(pixels(image), by_pillow(FILES["plain"]))
        np.testing.assert_array_equal(np.asarray(image), by_pillow(FILES["plain"]))
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft("RGB", (96, 72))
        assert pixels(image).shape[:2] == image.size[::-1]
    frames = encoded(PHOTO, "MPO", save_all=True, append_images=[Image.fromarray(PHOTO[::-1])])
    with Image.open(io.BytesIO(frames)) as image:
        image.seek(1)
        second = pixels(image)
    assert np.abs(second.astype(int) - PHOTO[::-1]).mean() < 8


def test_what_this_decoder_does_not_know_is_pillows():
    content = bytearray(FILES["fine"])
    frame = content.index(b"\xff\xc0")
    assert content[frame + 11] == 0x11
    content[frame + 11] = 0x31  # three times as many blocks: an unusual sampling factor
    whole = Image.open(io.BytesIO(bytes(content))).size
    assert pixels(bytes(content), allow_truncated=True).shape[:2] == whole[::-1]


# ---- damaged ----


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.floats(0, 0.999), st.booleans())
@example("restarts", 0.6875, False)  # right before a restart
@example("progressive", 0.140625, False)  # right before a scan
@example("progressive", 0.140625, True)
def test_cut_data_are_refused_with_and_without_an_end_marker(name, share, closed):
    content = FILES[name]
    first, last = data_start(content), len(content) - 4
    cut = content[: first + int(share * (last - first))] + (EOI if closed else b"")
    text = refusal(cut)
    assert text.endswith("its data end too early (a truncated file)") or closed
    assert not re.search(r"\d", text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SEQUENTIAL), st.floats(0, 0.9), st.sampled_from([48, 512, 4096, 1 << 20]))
def test_zero_bytes_in_the_data_are_refused(name, share, length):
    content = FILES[name]
    first, last = data_start(content), len(content) - 2
    start = first + int(share * (last - first))
    end = min(last, start + length)
    refusal(content[:start] + bytes(end - start) + content[end:])


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_zero_tail_is_refused(name, share):
    content = FILES[name]
    place = data_start(content) + int(share * (len(content) - data_start(content)))
    refusal(content[:place] + bytes(len(content) - place))
    refusal(content[:place] + bytes(len(content) - place - 2) + EOI)


@pytest.mark.parametrize("name", ["plain", "fine", "optimized"])
def test_data_that_go_on_after_the_last_pixel_are_refused(name):
    """Since what came before them was not what was written."""
    content = FILES[name]
    surplus = content[-400:-2]
    assert len(set(surplus)) > 50
    refusal(content[:-2] + surplus + EOI)


def test_a_part_may_be_taken_on_request():
    content = FILES["plain"]
    half = content[: len(content) // 2]
    for cut in (half, half + EOI):
        part = pixels(cut, allow_truncated=True)
        np.testing.assert_array_equal(part[:48], by_pillow(content)[:48])
    zeros = content[: len(half)] + bytes(len(content) - len(half))
    assert pixels(zeros, allow_truncated=True).shape == PHOTO.shape


def test_a_refused_pillow_image_stays_refused():
    content = FILES["plain"]
    image = Image.open(io.BytesIO(content[: len(content) // 2] + EOI))
    for _ in range(3):
        refusal(image)


STARVED = """
import resource, sys
from qfm_iqm.image.decode import read_image_uint8

content = sys.stdin.buffer.read()
with open("/proc/self/statm") as file:
    mapped = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 30_000_000,) * 2)
read_image_uint8(content)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_lack_of_memory_is_no_damage():
    """12 MB of pixels fit, and the 24 MB of coefficients of a progressive file do not."""
    content = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True, subsampling=0)
    ended = subprocess.run([sys.executable, "-c", STARVED], input=content, capture_output=True)
    assert b"there is not enough memory for it" in ended.stderr


def test_the_reader_in_eight_bits_refuses_as_well():
    with pytest.raises(ImageError, match="end too early"):
        read_image_uint8(FILES["plain"][:3000] + EOI)


def test_what_a_decoder_does_not_write_is_gray():
    """It warns of a truncated scan, and then gives up at an unknown marker without a warning."""
    whole = encoded(PHOTO, "JPEG", progressive=True)
    scan = whole.index(b"\xff\xda") + 100
    cut = whole[:scan] + whole[scan + 200 :]
    content = b"\xff\x03".join(cut.rsplit(b"\xff\xc4", 1))  # damages the tables of the last scan
    refusal(content)
    assert (pixels(content, allow_truncated=True) == 128).all()
