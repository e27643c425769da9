import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image, read_image_uint8

from .samples import (
    COLOR,
    DEEP,
    DEEP_COLOR,
    GRAY,
    PHOTO,
    SMOOTH,
    encoded,
    floats,
    pixels,
    png,
    same_gray,
    tiff,
)

# ---- deep pixels ----


def test_16_bit_gray_keeps_16_bits():
    expected = same_gray(DEEP) / 65535
    by_hand = png(9, 6, 16, 0, [row.astype(">u2").tobytes() for row in DEEP])
    for data in (by_hand, encoded(DEEP, "PNG"), encoded(DEEP, "TIFF")):
        np.testing.assert_allclose(floats(data), expected, atol=1e-7)
        whole = read_image_uint8(data).transpose(1, 2, 0)
        np.testing.assert_array_equal(whole, np.rint(expected * 255))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_gray_tiff_of_both_byte_orders_and_polarities(order):
    data = DEEP.astype(f"{order}u2").tobytes()
    straight = tiff(9, 6, [16], 1, data, order=order)
    np.testing.assert_allclose(floats(straight), same_gray(DEEP) / 65535, atol=1e-7)
    if order == "<":  # Pillow opens only this one
        inverse = tiff(9, 6, [16], 0, data, order=order)
        np.testing.assert_allclose(floats(inverse), 1 - same_gray(DEEP) / 65535, atol=1e-7)


def test_16_bit_gray_pgm():
    data = b"P5 9 6 65535\n" + DEEP.astype(">u2").tobytes()
    np.testing.assert_allclose(floats(data), same_gray(DEEP) / 65535, atol=1e-7)


def test_12_bit_tiff_is_scaled_to_its_own_full_range():
    data = tiff(2, 2, [12], 1, bytes([0xFF, 0xF8, 0x00, 0x00, 0x0F, 0xFF]))
    expected = np.array([[0xFFF, 0x800], [0x000, 0xFFF]]) / 4095
    np.testing.assert_allclose(floats(data), same_gray(expected), atol=1e-5)


def deep_color_files():
    yield png(9, 6, 16, 2, [row.astype(">u2").tobytes() for row in DEEP_COLOR])
    for order in ("<", ">"):
        values = DEEP_COLOR.astype(f"{order}u2")
        yield tiff(9, 6, [16] * 3, 2, values.tobytes(), order=order)
        planes = values.transpose(2, 0, 1).tobytes()
        yield tiff(9, 6, [16] * 3, 2, planes, order=order, planar=2)


@pytest.mark.parametrize("data", list(deep_color_files()))
def test_16_bit_color_is_scaled_to_within_one_8_bit_step(data):
    result = floats(data)
    assert np.abs(result - DEEP_COLOR / 65535).max() <= 1 / 255
    np.testing.assert_array_equal(pixels(data), DEEP_COLOR >> 8)


def test_separate_8_bit_planes():
    data = tiff(9, 6, [8] * 3, 2, COLOR.transpose(2, 0, 1).tobytes(), planar=2)
    np.testing.assert_array_equal(pixels(data), COLOR)


def test_16_bit_gray_with_alpha():
    deep = np.stack([DEEP, DEEP[::-1]], -1)
    data = png(9, 6, 16, 4, [row.astype(">u2").tobytes() for row in deep])
    value, alpha = DEEP / 65535, DEEP[::-1] / 65535
    expected = same_gray(value * alpha + 1 - alpha)
    assert np.abs(floats(data) - expected).max() <= 2.5 / 255  # both keep only the high bytes


def test_integers_and_floats_have_a_fixed_range():
    integers = Image.fromarray(DEEP.astype(np.int32))
    assert integers.mode == "I"
    np.testing.assert_allclose(floats(integers), same_gray(DEEP) / 65535, atol=1e-7)
    real = (GRAY / 255).astype(np.float32)
    for source in (Image.fromarray(real), encoded(Image.fromarray(real), "TIFF")):
        np.testing.assert_allclose(floats(source), same_gray(real), atol=1 / 65535)


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


def over_white(color, alpha):
    """Compositing in exact fractions, rounded half up."""
    weight = alpha[..., None].astype(int)
    mixed = color.astype(int) * weight + 255 * (255 - weight)
    return np.floor(mixed / 255 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_over_white(kind):
    image = Image.fromarray(np.dstack([COLOR, GRAY]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    result = pixels(encoded(image, kind, **options))
    np.testing.assert_array_equal(result, over_white(COLOR, GRAY))


def test_gray_with_alpha():
    image = Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1].copy())])
    expected = over_white(same_gray(GRAY), GRAY[::-1])
    for source in (image, encoded(image, "PNG")):
        np.testing.assert_array_equal(pixels(source), expected)


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
    expected = over_white(TABLE[INDICES], table[INDICES])
    result = pixels(indexed((b"tRNS", alphas)))
    np.testing.assert_array_equal(result, expected)


def test_palette_with_alpha_band():
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(PALETTE)
    image = image.convert("PA")
    image.putalpha(Image.fromarray(np.full((2, 3), 51, np.uint8)))
    assert image.mode == "PA"
    expected = over_white(TABLE[INDICES], np.full((2, 3), 51, np.uint8))
    np.testing.assert_array_equal(pixels(image), expected)


def test_gif_transparency():
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(PALETTE)
    expected = np.where((INDICES == 1)[..., None], 255, TABLE[INDICES])
    data = encoded(image, "GIF", transparency=1)
    np.testing.assert_array_equal(pixels(data), expected)


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, bytes([0b01000000]), 1, [0, 255, 0]),
        (2, bytes([0b00011000]), 1, [0, 255, 170]),
        (4, bytes([0x0F, 0x30]), 3, [0, 255, 255]),
        (8, bytes([0, 200, 255]), 200, [0, 255, 255]),
    ],
)
def test_transparent_gray_counts_in_the_bits_of_the_file(depth, row, key, expected):
    data = png(3, 1, depth, 0, [row], (b"tRNS", struct.pack(">H", key)))
    np.testing.assert_array_equal(pixels(data)[0, :, 0], expected)


def test_transparent_color_of_deep_pngs():
    gray = png(3, 1, 16, 0, [struct.pack(">3H", 5, 6, 65535)], (b"tRNS", struct.pack(">H", 6)))
    np.testing.assert_allclose(floats(gray)[0, :, 0] * 65535, [5, 65535, 65535], atol=0.01)
    key = (0x1234, 0x5678, 0x9ABC)
    row = struct.pack(">6H", *key, 0x2234, 0x5678, 0x9ABC)
    color = png(2, 1, 16, 2, [row], (b"tRNS", struct.pack(">3H", *key)))
    expected = [[255, 255, 255], [0x22, 0x56, 0x9A]]
    np.testing.assert_array_equal(pixels(color)[0], expected)


def test_transparent_color_of_8_bit_png():
    data = png(2, 1, 8, 2, [bytes([1, 2, 3, 1, 2, 4])], (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    np.testing.assert_array_equal(pixels(data), [[[255, 255, 255], [1, 2, 4]]])


# ---- profiles ----


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
    colors = {name: xyz(*primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent))
    return icc(b"RGB ", WHITE_POINT | colors | curves)


def srgb_from_linear(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("primaries", [SRGB_PRIMARIES, P3_PRIMARIES], ids=["linear", "p3"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_rgb_profile_is_converted_to_srgb(primaries, kind):
    stored = pixels(encoded(COLOR, kind))
    exponent = 1.0 if primaries is SRGB_PRIMARIES else 2.19921875
    data = encoded(COLOR, kind, icc_profile=rgb_profile(primaries, exponent))
    linear = (stored / 255) ** exponent @ (np.linalg.inv(SRGB_PRIMARIES) @ primaries).T
    expected = 255 * srgb_from_linear(linear)
    result = pixels(data).astype(float)
    assert np.abs(result - stored).max() > 5
    assert np.abs(result - expected).max() <= 2


def test_alpha_survives_a_profile():
    profile = rgb_profile(SRGB_PRIMARIES, 1.0)
    data = encoded(np.dstack([COLOR, GRAY]), "PNG", icc_profile=profile)
    opaque = pixels(encoded(COLOR, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(pixels(data), over_white(opaque, GRAY))


@pytest.mark.parametrize("deep", [False, True])
def test_gray_profile(deep):
    profile = icc(b"GRAY", WHITE_POINT | {b"kTRC": gamma(1.0)})
    gray, full = (DEEP, 65535) if deep else (GRAY, 255)
    expected = 255 * srgb_from_linear(same_gray(gray) / full)
    result = pixels(encoded(gray, "PNG", icc_profile=profile))
    assert np.abs(result - expected).max() <= 1.5


def test_palette_profile():
    profile = rgb_profile(SRGB_PRIMARIES, 1.0)
    table = bytes([50, 60, 70, 128, 128, 128, 200, 100, 0])
    image = Image.frombytes("P", (3, 2), INDICES.tobytes())
    image.putpalette(table)
    colors = np.frombuffer(table, np.uint8).reshape(3, 3)[INDICES]
    expected = 255 * srgb_from_linear(colors / 255)
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
    np.testing.assert_array_equal(pixels(encoded(COLOR, "PNG", icc_profile=profile)), COLOR)


def naive_rgb(cmyk):
    ink = 1 - cmyk / 255
    return 255 * ink[..., :3] * ink[..., 3:]


def cmyk_image():
    return Image.frombytes("CMYK", (9, 6), np.dstack([COLOR, GRAY // 3]).tobytes())


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
    """A press whose inks all darken the same way, so that the right gray is known."""
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


def test_lab_and_video_colors():
    lab = tiff(2, 1, [8] * 3, 8, bytes([255, 0, 0, 0, 0, 0]))  # a and b are signed
    np.testing.assert_allclose(pixels(lab), [[[255] * 3, [0] * 3]], atol=2)
    video = Image.fromarray(SMOOTH).convert("YCbCr")
    assert np.abs(pixels(video).astype(int) - SMOOTH).max() <= 3


def test_threads_share_a_profile():
    data = encoded(PHOTO, "JPEG", icc_profile=rgb_profile(P3_PRIMARIES, 2.2))
    expected = pixels(data)
    with ThreadPoolExecutor(8) as threads:
        for result in threads.map(pixels, [data] * 32):
            np.testing.assert_array_equal(result, expected)
