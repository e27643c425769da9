import io
import os
import struct
import subprocess
import sys
import textwrap
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, features

from qfm_iqm.errors import ImageError
from qfm_iqm.image.reading import read_image, read_image_uint8

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
DEEP_COLOUR = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
SMOOTH = np.stack(np.meshgrid(np.arange(0, 256, 4), np.arange(0, 192, 4)), -1)
SMOOTH = np.concatenate([SMOOTH, 255 - SMOOTH[..., :1]], -1).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def pixels(source, **options):
    """Read as (H, W, 3) numpy uint8, checking the float form on the way."""
    whole = read_image_uint8(source, **options)
    assert whole.dtype == torch.uint8
    real = read_image(source, **options)
    assert real.dtype == torch.float32
    assert real.is_contiguous()
    assert whole.is_contiguous()
    assert torch.equal((real * 255).round().to(torch.uint8), whole)
    return whole.permute(1, 2, 0).numpy()


def floats(source, **options):
    return read_image(source, **options).permute(1, 2, 0).double().numpy()


def same_grey(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def png(width, height, depth, colour_type, rows, *chunks):
    """A PNG by hand: `rows` are the raw bytes of each scanline."""

    def chunk(name, body):
        checksum = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*extra) for extra in chunks)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(width, height, bits, photometric, data, *, order="<", planar=1, orientation=1, form=1):
    """An uncompressed one-strip TIFF (one strip a plane) by hand."""
    samples = len(bits)
    planes = samples if planar == 2 else 1
    start = 8 + 2 + 12 * 13 + 4  # the values that do not fit into an entry follow the directory
    wide = {
        258: (3, bits),
        273: (4, ()),
        279: (4, [len(data) // planes] * planes),
        339: (3, [form] * samples),
    }
    entries = {256: (4, [width]), 257: (4, [height]), 259: (3, [1]), 262: (3, [photometric])}
    entries |= {274: (3, [orientation]), 277: (3, [samples]), 278: (4, [height])}
    entries |= {282: (3, [1]), 284: (3, [planar])} | wide
    size = {3: ("H", 2), 4: ("I", 4)}
    extra = sum(
        len(values) * size[kind][1]
        for kind, values in [wide[258], wide[279], wide[339], (4, [0] * planes)]
        if len(values) * size[kind][1] > 4
    )
    offset = start + extra
    entries[273] = (4, [offset + len(data) // planes * plane for plane in range(planes)])
    directory, tail = b"", b""
    for tag, (kind, values) in sorted(entries.items()):
        letter, _ = size[kind]
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            tail, packed = tail + packed, struct.pack(f"{order}I", start + len(tail))
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + directory + struct.pack(f"{order}I", 0) + tail + data


def icc(space, tags, kind=b"mntr", connection=b"XYZ "):
    """An ICC version 2 profile by hand."""
    table, body = struct.pack(">I", len(tags)), b""
    offset = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    illuminant = b"".join(fixed(value) for value in (0.9642, 1.0, 0.8249))
    header = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02400000, kind, space, connection)
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + illuminant
    whole = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(fixed(value) for value in values)


def gamma(exponent):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


WHITE_POINT = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
SRGB_PRIMARIES = np.array(  # columns: red, green, blue in D50 XYZ, as in the sRGB profile
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
P3_PRIMARIES = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)


def rgb_profile(primaries, exponent):
    colours = {name: xyz(*primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent))
    return icc(b"RGB ", WHITE_POINT | colours | curves)


def srgb_from_linear(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# ---- plain formats ----


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_give_their_very_pixels(kind):
    np.testing.assert_array_equal(pixels(encoded(COLOUR, kind)), COLOUR)
    np.testing.assert_array_equal(pixels(encoded(GREY, kind)), same_grey(GREY))


def test_compressed_tiff_and_lossless_webp_and_jpeg2000():
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        tiff_bytes = encoded(COLOUR, "TIFF", compression=compression)
        np.testing.assert_array_equal(pixels(tiff_bytes), COLOUR)
    np.testing.assert_array_equal(pixels(encoded(COLOUR, "WEBP", lossless=True)), COLOUR)
    if features.check("jpg_2000"):
        np.testing.assert_array_equal(pixels(encoded(COLOUR, "JPEG2000")), COLOUR)


def test_float_values_are_the_pixels_over_255():
    np.testing.assert_allclose(floats(encoded(COLOUR, "PNG")), COLOUR / 255, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_is_near_the_original(options):
    result = pixels(encoded(SMOOTH, "JPEG", quality=95, **options))
    assert np.abs(result.astype(int) - SMOOTH).mean() < 3


def test_grey_jpeg_is_grey():
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
    bits = GREY > 127
    image = Image.fromarray(bits)
    assert image.mode == "1"
    for kind in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(pixels(encoded(image, kind)), same_grey(bits * 255))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_stands_for_all(kind):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    result = pixels(data).astype(int)
    assert np.abs(result - np.array([255, 0, 0])).max() <= 2  # MPO is a JPEG


# ---- deep pixels ----


def test_16_bit_grey_keeps_16_bits():
    expected = same_grey(DEEP) / 65535
    by_hand = png(9, 6, 16, 0, [row.astype(">u2").tobytes() for row in DEEP])
    for data in (by_hand, encoded(DEEP, "PNG"), encoded(DEEP, "TIFF")):
        np.testing.assert_allclose(floats(data), expected, atol=1e-7)
        whole = read_image_uint8(data).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(whole, np.rint(expected * 255))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_tiff_of_both_byte_orders_and_polarities(order):
    data = DEEP.astype(f"{order}u2").tobytes()
    straight = tiff(9, 6, [16], 1, data, order=order)
    np.testing.assert_allclose(floats(straight), same_grey(DEEP) / 65535, atol=1e-7)
    if order == "<":  # Pillow opens no other
        inverse = tiff(9, 6, [16], 0, data, order=order)
        np.testing.assert_allclose(floats(inverse), 1 - same_grey(DEEP) / 65535, atol=1e-7)


def test_16_bit_grey_pgm():
    data = b"P5 9 6 65535\n" + DEEP.astype(">u2").tobytes()
    np.testing.assert_allclose(floats(data), same_grey(DEEP) / 65535, atol=1e-7)


def test_12_bit_tiff_is_scaled_to_its_own_full_range():
    data = tiff(2, 2, [12], 1, bytes([0xFF, 0xF8, 0x00, 0x00, 0x0F, 0xFF]))
    expected = np.array([[0xFFF, 0x800], [0x000, 0xFFF]]) / 4095
    np.testing.assert_allclose(floats(data), same_grey(expected), atol=1e-5)


def deep_colour_files():
    yield png(9, 6, 16, 2, [row.astype(">u2").tobytes() for row in DEEP_COLOUR])
    for order in ("<", ">"):
        values = DEEP_COLOUR.astype(f"{order}u2")
        yield tiff(9, 6, [16] * 3, 2, values.tobytes(), order=order)
        planes = values.transpose(2, 0, 1).tobytes()
        yield tiff(9, 6, [16] * 3, 2, planes, order=order, planar=2)


@pytest.mark.parametrize("data", list(deep_colour_files()))
def test_16_bit_colour_is_scaled_to_within_one_8_bit_step(data):
    result = floats(data)
    assert np.abs(result - DEEP_COLOUR / 65535).max() <= 1 / 255
    np.testing.assert_array_equal(pixels(data), DEEP_COLOUR >> 8)


def test_separate_8_bit_planes():
    data = tiff(9, 6, [8] * 3, 2, COLOUR.transpose(2, 0, 1).tobytes(), planar=2)
    np.testing.assert_array_equal(pixels(data), COLOUR)


def test_16_bit_grey_with_alpha():
    deep = np.stack([DEEP, DEEP[::-1]], -1)
    data = png(9, 6, 16, 4, [row.astype(">u2").tobytes() for row in deep])
    value, alpha = DEEP / 65535, DEEP[::-1] / 65535
    expected = same_grey(value * alpha + 1 - alpha)
    assert np.abs(floats(data) - expected).max() <= 2.5 / 255  # both are high bytes


def test_integers_and_floats_have_a_fixed_range():
    integers = Image.fromarray(DEEP.astype(np.int32))
    assert integers.mode == "I"
    np.testing.assert_allclose(floats(integers), same_grey(DEEP) / 65535, atol=1e-7)
    real = (GREY / 255).astype(np.float32)
    for source in (Image.fromarray(real), encoded(Image.fromarray(real), "TIFF")):
        np.testing.assert_allclose(floats(source), same_grey(real), atol=1 / 65535)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[0, 65536]], np.int32), r"from 0 to 65536 .* integers in 0..65535"),
        (np.array([[-1, 5]], np.int32), r"from -1 to 5 .* integers in 0..65535"),
        (np.array([[0, 1.5]], np.float32), r"from 0 to 1.5 .* floats in 0..1"),
        (np.array([[0, np.nan]], np.float32), r"floats in 0..1"),
        (np.array([[0, -np.inf]], np.float32), r"floats in 0..1"),
    ],
)
def test_values_outside_their_range_are_refused_not_clipped(values, text):
    with pytest.raises(ImageError, match=text):
        read_image(Image.fromarray(values))


# ---- transparency ----


def over(colour, alpha, background):
    """Compositing in exact fractions, rounded half up."""
    weight = alpha[..., None].astype(int)
    mixed = colour.astype(int) * weight + np.array(background) * (255 - weight)
    return np.floor(mixed / 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 77)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_over_the_background(kind, background):
    image = Image.fromarray(np.dstack([COLOUR, GREY]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    result = pixels(encoded(image, kind, **options), background=background)
    np.testing.assert_array_equal(result, over(COLOUR, GREY, background))


def test_grey_with_alpha():
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())])
    expected = over(same_grey(GREY), GREY[::-1], (9, 8, 7))
    for source in (image, encoded(image, "PNG")):
        np.testing.assert_array_equal(pixels(source, background=(9, 8, 7)), expected)


PALETTE = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])
TABLE = np.frombuffer(PALETTE, np.uint8).reshape(3, 3)
INDICES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def indexed(*chunks):
    return png(3, 2, 8, 3, [bytes(row) for row in INDICES], (b"PLTE", PALETTE), *chunks)


def test_palette():
    np.testing.assert_array_equal(pixels(indexed()), TABLE[INDICES])


@pytest.mark.parametrize("alphas", [bytes([255, 0]), bytes([10, 128, 200])])
def test_palette_with_transparency(alphas):
    table = np.frombuffer(alphas.ljust(3, b"\xff"), np.uint8)
    expected = over(TABLE[INDICES], table[INDICES], (1, 2, 3))
    result = pixels(indexed((b"tRNS", alphas)), background=(1, 2, 3))
    np.testing.assert_array_equal(result, expected)


def test_palette_with_alpha_band():
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(PALETTE)
    image = image.convert("PA")
    image.putalpha(Image.fromarray(np.full((2, 3), 51, np.uint8)))
    assert image.mode == "PA"
    expected = over(TABLE[INDICES], np.full((2, 3), 51, np.uint8), (0, 0, 0))
    np.testing.assert_array_equal(pixels(image, background=(0, 0, 0)), expected)


def test_gif_transparency():
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(PALETTE)
    expected = np.where((INDICES == 1)[..., None], (4, 5, 6), TABLE[INDICES])
    data = encoded(image, "GIF", transparency=1)
    np.testing.assert_array_equal(pixels(data, background=(4, 5, 6)), expected)


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, bytes([0b01000000]), 1, [0, 7, 0]),
        (2, bytes([0b00011000]), 1, [0, 7, 170]),
        (4, bytes([0x0F, 0x30]), 3, [0, 255, 7]),
        (8, bytes([0, 200, 255]), 200, [0, 7, 255]),
    ],
)
def test_transparent_grey_counts_in_the_bits_of_the_file(depth, row, key, expected):
    data = png(3, 1, depth, 0, [row], (b"tRNS", struct.pack(">H", key)))
    np.testing.assert_array_equal(pixels(data, background=(7, 7, 7))[0, :, 0], expected)


def test_transparent_colour_of_deep_pngs():
    grey = png(3, 1, 16, 0, [struct.pack(">3H", 5, 6, 65535)], (b"tRNS", struct.pack(">H", 6)))
    np.testing.assert_allclose(floats(grey)[0, :, 0] * 65535, [5, 65535, 65535], atol=0.01)
    key = (0x1234, 0x5678, 0x9ABC)
    row = struct.pack(">6H", *key, 0x2234, 0x5678, 0x9ABC)
    colour = png(2, 1, 16, 2, [row], (b"tRNS", struct.pack(">3H", *key)))
    expected = [[1, 2, 3], [0x22, 0x56, 0x9A]]
    np.testing.assert_array_equal(pixels(colour, background=(1, 2, 3))[0], expected)


def test_transparent_colour_of_8_bit_png():
    data = png(2, 1, 8, 2, [bytes([1, 2, 3, 1, 2, 4])], (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    np.testing.assert_array_equal(pixels(data), [[[255, 255, 255], [1, 2, 4]]])


# ---- colour ----


@pytest.mark.parametrize("primaries", [SRGB_PRIMARIES, P3_PRIMARIES], ids=["linear", "p3"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_rgb_profile_is_converted_to_srgb(primaries, kind):
    exponent = 1.0 if primaries is SRGB_PRIMARIES else 2.19921875
    data = encoded(COLOUR, kind, icc_profile=rgb_profile(primaries, exponent))
    linear = (COLOUR / 255) ** exponent @ (np.linalg.inv(SRGB_PRIMARIES) @ primaries).T
    expected = 255 * srgb_from_linear(linear)
    result = pixels(data).astype(float)
    assert np.abs(result - COLOUR).max() > 5
    assert np.abs(result - expected).max() <= 2


def test_alpha_survives_a_profile():
    profile = rgb_profile(SRGB_PRIMARIES, 1.0)
    data = encoded(np.dstack([COLOUR, GREY]), "PNG", icc_profile=profile)
    opaque = pixels(encoded(COLOUR, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(pixels(data), over(opaque, GREY, (255, 255, 255)))


@pytest.mark.parametrize("deep", [False, True])
def test_grey_profile(deep):
    profile = icc(b"GRAY", WHITE_POINT | {b"kTRC": gamma(1.0)})
    grey, full = (DEEP, 65535) if deep else (GREY, 255)
    expected = 255 * srgb_from_linear(same_grey(grey) / full)
    result = pixels(encoded(grey, "PNG", icc_profile=profile))
    assert np.abs(result - expected).max() <= 1.5


def test_palette_profile():
    profile = rgb_profile(SRGB_PRIMARIES, 1.0)
    table = bytes([50, 60, 70, 128, 128, 128, 200, 100, 0])
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(table)
    colours = np.frombuffer(table, np.uint8).reshape(3, 3)[INDICES]
    expected = 255 * srgb_from_linear(colours / 255)
    result = pixels(encoded(image, "PNG", icc_profile=profile))
    assert np.abs(result - expected).max() <= 1.5


def test_the_srgb_profile_leaves_every_pixel_alone():
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), -1).reshape(86, -1, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(cube.astype(np.uint8), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(pixels(data), cube)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        rgb_profile(P3_PRIMARIES, 1.0)[:200],
        icc(b"RGB ", WHITE_POINT),
        icc(b"GRAY", WHITE_POINT | {b"kTRC": gamma(1.0)}),
        bytes(5000),
    ],
    ids=["text", "cut", "no-curves", "other-space", "zeros"],
)
def test_unusable_profiles_leave_the_pixels_alone(profile):
    np.testing.assert_array_equal(pixels(encoded(COLOUR, "PNG", icc_profile=profile)), COLOUR)


def naive_rgb(cmyk):
    ink = 1 - cmyk / 255
    return 255 * ink[..., :3] * ink[..., 3:]


def cmyk_image():
    return Image.frombytes("CMYK", (9, 6), np.dstack([COLOUR, GREY // 3]).tobytes())


def test_cmyk_tiff():
    image = cmyk_image()
    expected = naive_rgb(np.asarray(image).astype(float))
    assert np.abs(pixels(encoded(image, "TIFF")) - expected).max() <= 1


def test_adobe_jpeg_holds_its_inks_inverted():
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 1] = 200  # magenta
    data = encoded(Image.frombytes("CMYK", (16, 16), inks.tobytes()), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(pixels(data) - naive_rgb(inks.astype(float))).max() <= 2


def test_cmyk_profile():
    """A press whose inks all darken the same way, so that the right grey is known."""
    curve = np.linspace(0, 65535, 2).astype(">u2").tobytes()
    lightness = [100 - 25 * sum(map(int, f"{corner:04b}")) for corner in range(16)]
    grid = b"".join(
        struct.pack(">3H", round(0xFF00 * light / 100), 0x8000, 0x8000) for light in lightness
    )
    unit = b"".join(fixed(float(i == j)) for i in range(3) for j in range(3))
    table = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + struct.pack(">2H", 2, 2)
    table += curve * 4 + grid + curve * 3
    profile = icc(b"CMYK", WHITE_POINT | {b"A2B0": table}, kind=b"prtr", connection=b"Lab ")
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [255, 255, 0, 0], [255, 255, 255, 255]]])
    image = Image.frombytes("CMYK", (4, 1), inks.astype(np.uint8).tobytes())
    light = np.array([100, 75, 50, 0])
    luminance = np.where(light > 8, ((light + 16) / 116) ** 3, light / 903.3)
    expected = 255 * srgb_from_linear(luminance)
    result = pixels(encoded(image, "TIFF", icc_profile=profile))[0].astype(float)
    assert np.abs(result - expected[:, None]).max() <= 3


def test_lab_and_video_colours():
    lab = tiff(2, 1, [8] * 3, 8, bytes([255, 0, 0, 0, 0, 0]))  # a and b are signed
    np.testing.assert_allclose(pixels(lab), [[[255] * 3, [0] * 3]], atol=2)
    video = Image.fromarray(SMOOTH).convert("YCbCr")
    assert np.abs(pixels(video).astype(int) - SMOOTH).max() <= 3


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation):
    expected = UPRIGHT[orientation](COLOUR)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(COLOUR, kind, exif=exif(orientation), **options)
        np.testing.assert_array_equal(pixels(data), expected)
    plain = tiff(9, 6, [8] * 3, 2, COLOUR.tobytes(), orientation=orientation)
    np.testing.assert_array_equal(pixels(plain), expected)
    packed = encoded(COLOUR, "TIFF", tiffinfo={274: orientation}, compression="tiff_lzw")
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


def test_all_kinds_of_source_agree(tmp_path):
    data = encoded(COLOUR, "PNG")
    path = tmp_path / "a photo.png"
    path.write_bytes(data)
    misnamed = tmp_path / "odd\nname \U0001f600.jpg"
    misnamed.write_bytes(data)
    sources = [path, str(path), misnamed, data, bytearray(data), memoryview(data)]
    for source in [*sources, Image.fromarray(COLOUR), Image.open(path)]:
        np.testing.assert_array_equal(pixels(source), COLOUR)
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    np.testing.assert_array_equal(floats(stream), COLOUR / np.float32(255))
    assert not stream.closed


def test_a_pillow_image_is_not_changed():
    image = Image.fromarray(np.dstack([COLOUR, GREY]))
    image.getexif()[274] = 6
    before = image.copy()
    assert pixels(image).shape == (9, 6, 3)
    assert image == before
    assert image.getexif()[274] == 6


def test_the_result_belongs_to_the_caller():
    image = Image.fromarray(COLOUR)
    read_image_uint8(image).zero_()
    np.testing.assert_array_equal(np.asarray(image), COLOUR)


def test_no_file_stays_open(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(COLOUR, "PNG"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read_image(path)
        path.write_bytes(b"not an image")
        with pytest.raises(ImageError):
            read_image(path)


# ---- refusals ----


def refusal(source, **options):
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith("cannot read ")
    return text


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


def test_no_pixels():
    assert "no pixels (0 x 5)" in refusal(Image.new("RGB", (0, 5)))
    refusal(png(0, 5, 8, 2, []))


def test_the_pixel_limit_is_checked_before_decoding():
    assert pixels(encoded(COLOUR, "PNG"), max_pixels=54).shape == (6, 9, 3)
    text = refusal(encoded(COLOUR, "PNG"), max_pixels=53)
    assert "9 x 6 pixels exceed the limit of 53" in text
    bomb = png(60000, 60000, 8, 2, [])  # decoding it would first allocate 10 GB
    assert "60000 x 60000 pixels exceed the limit of 250000000" in refusal(bomb)
    assert "exceed the limit" in refusal(Image.new("L", (100, 100)), max_pixels=9999)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_pillows_own_pixel_limit_does_not_interfere(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # a warning at 11, an error at 21
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(encoded(COLOUR, kind)).shape == (6, 9, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize(
    "options", [{"max_pixels": 0}, {"background": (0, 0, 256)}, {"background": (1, 2)}]
)
def test_impossible_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        read_image(encoded(COLOUR, "PNG"), **options)


# ---- damage ----

PHOTO = np.clip(SMOOTH.repeat(3, 0).repeat(3, 1) + RNG.normal(0, 9, (144, 192, 3)), 0, 255)
PHOTO = PHOTO.astype(np.uint8)
FILES = {
    "jpeg": encoded(PHOTO, "JPEG", quality=90),
    "progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "png": encoded(PHOTO, "PNG"),
    "gif": encoded(Image.fromarray(PHOTO).quantize(64), "GIF", interlace=0),
    "webp": encoded(PHOTO, "WEBP"),
    "bmp": encoded(PHOTO, "BMP"),
    "tiff": encoded(PHOTO, "TIFF"),
    "tiff-lzw": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_image_is_refused(name):
    refusal(FILES[name][: len(FILES[name]) * 6 // 10])


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "gif", "bmp", "tiff"])
def test_a_truncated_image_can_be_read_as_far_as_it_goes(name):
    whole = floats(FILES[name])
    part = floats(FILES[name][: len(FILES[name]) * 6 // 10], allow_truncated=True)
    assert part.shape == whole.shape
    # A progressive file holds a rougher form of the whole, the others the upper rows.
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
            assert image.numel() > 0


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


def test_nothing_is_printed_about_damage():
    """In a process of its own, where neither warnings nor log lines are captured."""
    script = """
        import struct
        from qfm_iqm.errors import ImageError
        from qfm_iqm.image.reading import read_image
        from PIL import Image
        import io, warnings
        tags = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 99),
                (273, 4, 1, 8), (282, 5, 1, 99999)]
        directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        bad = b"II*\\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, "TIFF", compression="tiff_lzw")
        for data in (bad, file.getvalue()[:-40], file.getvalue()[:120]):
            for allow_truncated in (False, True):
                try:
                    read_image(data, allow_truncated=allow_truncated)
                except ImageError:
                    pass
    """
    finished = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert finished.stdout == ""
    assert finished.stderr == ""


def test_the_filters_for_warnings_are_left_as_they_were():
    before = list(warnings.filters)
    read_image(FILES["jpeg"])
    with pytest.raises(ImageError):
        read_image(b"II*\0")
    assert list(warnings.filters) == before


def test_threads_with_and_without_truncation_do_not_disturb_each_other():
    cut = {name: FILES[name][: len(FILES[name]) // 2] for name in ("jpeg", "png")}
    expected = {name: pixels(data, allow_truncated=True) for name, data in cut.items()}
    whole = pixels(FILES["jpeg"])
    before = list(warnings.filters)

    def job(number):
        name = ("jpeg", "png")[number % 2]
        if number % 3 == 0:
            refusal(cut[name])
        elif number % 3 == 1:
            np.testing.assert_array_equal(pixels(cut[name], allow_truncated=True), expected[name])
        else:
            np.testing.assert_array_equal(pixels(FILES["jpeg"]), whole)
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(job, range(96)))
    assert list(warnings.filters) == before


def test_threads_share_a_profile():
    data = encoded(PHOTO, "JPEG", icc_profile=rgb_profile(P3_PRIMARIES, 2.2))
    expected = pixels(data)
    with ThreadPoolExecutor(8) as threads:
        for result in threads.map(pixels, [data] * 32):
            np.testing.assert_array_equal(result, expected)
