"""Chunks that the pixels do not need are harmless; those that they need are checked."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import opened, read_image_uint8

from .samples import COLOR, MOST_HELD, PHOTO, encoded, pixels, png, refusal

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB = zlib.compress(bytes(60_000_000))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def chunk(kind, body, *, wrong=False):
    checksum = zlib.crc32(kind + body) ^ wrong
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def chunks(content):
    """(kind, body) of each chunk."""
    place, found = 8, []
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        body = content[place + 8 : place + 8 + length]
        found.append((content[place + 4 : place + 8], body))
        place += length + 12
    return found


def joined(parts, wrong=()):
    return SIGNATURE + b"".join(
        chunk(kind, body, wrong=kind in wrong or number in wrong)
        for number, (kind, body) in enumerate(parts)
    )


def with_chunk(content, kind, body, *, before=b"IDAT", wrong=False):
    """A PNG with one more chunk, before the pixels or (before=b"IEND") after them."""
    place = content.index(before) - 4
    return content[:place] + chunk(kind, body, wrong=wrong) + content[place:]


PHOTO_PNG = encoded(PHOTO, "PNG")

# ---- what the pixels do not need ----

HARMLESS = {
    "long compressed text": (b"zTXt", b"Comment\0\0" + BOMB),
    "long international text": (b"iTXt", b"Comment\0\1\0\0\0" + BOMB),
    "long text": (b"tEXt", b"Comment\0" + b"text " * 500_000),
    "broken text": (b"zTXt", b"Comment\0\0no zlib"),
    "text without a name": (b"iTXt", b""),
    "a profile without end": (b"iCCP", b"name\0\0" + BOMB),
    "a broken profile": (b"iCCP", b"name\0\0no zlib"),
    "a profile packed otherwise": (b"iCCP", b"name\0\1" + zlib.compress(SRGB)),
    "an empty profile": (b"iCCP", b""),
    "a broken orientation": (b"eXIf", b"MM\0*nothing"),
    "an unknown chunk": (b"prVt", b"private" * 99),
    "a broken animation": (b"acTL", b""),
}


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_pixels_do_not_need_does_no_harm(name, wrong, before):
    kind, body = HARMLESS[name]
    content = with_chunk(encoded(COLOR, "PNG"), kind, body, wrong=wrong, before=before)
    np.testing.assert_array_equal(pixels(content), COLOR)


@pytest.mark.parametrize("kind", [b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"bKGD", b"tIME"])
def test_a_wrong_checksum_beside_the_pixels_does_no_harm(kind):
    content = with_chunk(encoded(COLOR, "PNG"), kind, b"\0\1\2\3", wrong=True)
    np.testing.assert_array_equal(pixels(content), COLOR)


def large_profile(size):
    """sRGB with a tag's worth of bytes behind, as a table of a printer's may be."""
    body = SRGB + bytes(size - len(SRGB))
    return struct.pack(">I", len(body)) + body[4:]


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("size", [len(SRGB), 3_000_000])
def test_a_profile_is_used_whatever_its_size(wrong, size):
    body = b"name\0\0" + zlib.compress(large_profile(size))
    content = with_chunk(encoded(COLOR, "PNG"), b"iCCP", body, wrong=wrong)
    with opened(content) as picture:
        assert picture.image.info["icc_profile"] == large_profile(size)
    np.testing.assert_array_equal(pixels(content), COLOR)


def orientation(number):
    block = Image.Exif()
    block[274] = number
    return block.tobytes()[6:]


XMP = b"XML:com.adobe.xmp\0%s\0\0%s"
RAW = b"\nexif\n%8d\n%s\n"


def turning():
    """Chunks that turn an image to the right, in all ways of saying so."""
    packet = b'<rdf:Description tiff:Orientation="6"/>'
    block = b"Exif\0\0" + orientation(6)
    raw = RAW % (len(block), block.hex().encode())
    return {
        "exif": (b"eXIf", orientation(6)),
        "xmp": (b"iTXt", XMP % (b"\0\0", packet)),
        "compressed xmp": (b"iTXt", XMP % (b"\1\0", zlib.compress(packet))),
        "raw profile": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
        "plain raw profile": (b"tEXt", b"Raw profile type exif\0" + raw),
    }


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", turning())
def test_an_image_is_turned_wherever_the_file_says_so(name, before):
    content = with_chunk(encoded(COLOR, "PNG"), *turning()[name], before=before)
    np.testing.assert_array_equal(pixels(content), np.rot90(COLOR, -1))
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(pixels(image), np.rot90(COLOR, -1))


READING = """
import sys
from qfm_iqm.image.decode import read_image_uint8

content, first = sys.stdin.buffer.read(), int(sys.argv[1])
read_image_uint8(content[:first])
before = most_held()
read_image_uint8(content[first:])
print(most_held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux")
@pytest.mark.parametrize(
    ("kind", "name"), [(b"zTXt", b"Raw profile type exif\0\0"), (b"iCCP", b"name\0\0")]
)
def test_a_bomb_beside_the_pixels_takes_no_memory(kind, name):
    plain = encoded(COLOR, "PNG")
    content = with_chunk(plain, kind, name + zlib.compress(bytes(200_000_000), 1))
    command = [sys.executable, "-c", MOST_HELD + READING, str(len(plain))]
    done = subprocess.run(command, input=plain + content, capture_output=True, check=True)
    assert int(done.stdout) < 60_000  # kilobytes


# ---- what they need ----


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "1", "L", "LA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (57, 31)])
def test_every_row_of_a_whole_image_is_there(mode, size):
    color = Image.fromarray(PHOTO).resize(size)
    image = color.convert("I").convert("I;16") if mode == "I;16" else color.convert(mode)
    content = encoded(image, "PNG")
    whole = read_image_uint8(content)
    np.testing.assert_array_equal(read_image_uint8(image), whole)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 90), st.integers(1, 6000), st.sampled_from(["RGB", "L", "P", "1"]))
@example(40, 6000, "RGB")
def test_long_repetitions_over_narrow_rows_are_read(width, height, mode):
    image = Image.new(mode, (width, height))
    image.paste(1, (0, 0, width, min(3, height)))
    assert read_image_uint8(encoded(image, "PNG")).shape == (3, height, width)


def test_a_wrong_checksum_of_the_pixels_is_refused():
    parts = chunks(encoded(Image.fromarray(PHOTO).quantize(9), "PNG", transparency=3))
    assert {b"PLTE", b"tRNS"} <= {kind for kind, _ in parts}
    for kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
        assert refusal(joined(parts, {kind})).endswith("its data are damaged (a wrong checksum)")
    assert pixels(joined(parts, {b"IEND"})).shape == PHOTO.shape


def split(content, size):
    """A PNG whose pixels come in chunks of `size` bytes."""
    parts = chunks(content)
    body = b"".join(body for kind, body in parts if kind == b"IDAT")
    pieces = [(b"IDAT", body[i : i + size]) for i in range(0, len(body), size)]
    kinds = [kind for kind, _ in parts]
    first = kinds.index(b"IDAT")
    return [*parts[:first], *pieces, parts[-1]]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000])
def test_pixels_may_come_in_many_chunks(size):
    parts = split(encoded(COLOR, "PNG"), size)
    assert len(parts) > 3 or size == 1000
    np.testing.assert_array_equal(pixels(joined(parts)), COLOR)
    with_empty = [*parts[:1], (b"IDAT", b""), *parts[1:-1], (b"IDAT", b""), parts[-1]]
    np.testing.assert_array_equal(pixels(joined(with_empty)), COLOR)
    refusal(joined(parts, {len(parts) - 2}))  # the last one of the pixels


@pytest.mark.parametrize("rows", [0, 1, 72, 143])
def test_missing_rows_are_refused_though_the_data_are_in_order(rows):
    data = [row.tobytes() for row in PHOTO[:rows]]
    short = png(192, 144, 8, 2, data)
    assert refusal(short).endswith("its data end too early (a truncated file)")
    if rows:
        part = pixels(short, allow_truncated=True)
        np.testing.assert_array_equal(part[:rows], PHOTO[:rows])


def test_more_rows_than_needed_are_passed_over():
    data = [row.tobytes() for row in PHOTO] * 2
    np.testing.assert_array_equal(pixels(png(192, 144, 8, 2, data)), PHOTO)


@pytest.mark.parametrize("missing", range(1, 17))
def test_nothing_but_the_end_is_missing(missing):
    np.testing.assert_array_equal(pixels(PHOTO_PNG[:-missing]), PHOTO)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_file_gives_the_same_pixels_or_none(data):
    content = data.draw(st.sampled_from([PHOTO_PNG, joined(split(encoded(COLOR, "PNG"), 40))]))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.sampled_from([len(content), data.draw(st.integers(1, len(content)))]))
    try:
        found = read_image_uint8(bytes(changed[:cut]))
    except ImageError:
        return
    np.testing.assert_array_equal(found, read_image_uint8(content))


def test_a_refused_pillow_image_stays_refused():
    content = bytearray(PHOTO_PNG)
    content[len(content) // 2] ^= 1
    with Image.open(io.BytesIO(bytes(content))) as image:
        for _ in range(3):
            refusal(image)
        with pytest.raises(OSError, match="cannot load"):
            image.load()


def test_the_still_image_stands_for_an_animation():
    frames = {"save_all": True, "append_images": [Image.fromarray(PHOTO[::-1])]}
    animation = encoded(PHOTO, "PNG", **frames)
    np.testing.assert_array_equal(pixels(animation), PHOTO)
    with Image.open(io.BytesIO(animation)) as image:
        image.seek(1)
        np.testing.assert_array_equal(pixels(image), PHOTO[::-1])
