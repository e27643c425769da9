"""Colors that a file defines by numbers, against the formulas of H.273 and IEC 61966-2-1."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from qfm_iqm.image.file_colors import boxes, heif_colors, jp2_codestream, jp2_color
from qfm_iqm.image.profiles import coded_profile

from .samples import SMOOTH, encoded, pixels, refusal, same_gray
from .test_color import P3_PRIMARIES, icc, rgb_profile, srgb_from_linear

D65 = (0.3127, 0.3290)
PRIMARIES = {  # red, green, blue; the codes of H.273
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
GRAY = np.ascontiguousarray(SMOOTH[..., 0])


def linear_from_srgb(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_xyz(primaries):
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def expected(values, primaries, linear=linear_from_srgb):
    """8-bit values in primaries of H.273 with a curve -> the sRGB values that look the same."""
    there = np.linalg.inv(to_xyz(PRIMARIES[1])) @ to_xyz(primaries)
    return 255 * srgb_from_linear(linear(values / 255) @ there.T)


def with_chunks(image, *chunks):
    data = encoded(image, "PNG")
    made = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:33] + made + data[33:]


def cicp(primaries, transfer, matrix=0, full=1):
    return b"cICP", bytes([primaries, transfer, matrix, full])


def gama(gamma):
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def chrm(primaries):
    values = [*D65, *primaries[0], *primaries[1], *primaries[2]]
    return b"cHRM", struct.pack(">8I", *[round(value * 100_000) for value in values])


def iccp(profile):
    return b"iCCP", b"x\0\0" + zlib.compress(profile)


# ---- PNG ----


@pytest.mark.parametrize("primaries", [9, 12])
@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
def test_png_primaries_come_to_srgb(primaries, transfer):
    result = pixels(with_chunks(SMOOTH, cicp(primaries, transfer)))
    wanted = expected(SMOOTH, PRIMARIES[primaries])
    assert np.abs(SMOOTH - wanted).max() > 20
    assert np.abs(result - wanted).max() <= 1


@pytest.mark.parametrize(("transfer", "exponent"), [(4, 2.2), (5, 2.8), (8, 1.0)])
def test_png_curves_come_to_srgb(transfer, exponent):
    result = pixels(with_chunks(SMOOTH, cicp(1, transfer)))
    wanted = 255 * srgb_from_linear((SMOOTH / 255) ** exponent)
    assert np.abs(result - wanted).max() <= 1


@pytest.mark.parametrize("codes", [(1, 13), (2, 2), (1, 1)])
def test_srgb_in_numbers_changes_no_pixel(codes):
    np.testing.assert_array_equal(pixels(with_chunks(SMOOTH, cicp(*codes))), SMOOTH)


def test_gamma_and_chromaticities_of_a_png():
    result = pixels(with_chunks(SMOOTH, gama(1 / 1.8)))
    wanted = 255 * srgb_from_linear((SMOOTH / 255) ** 1.8)
    assert np.abs(result - wanted).max() <= 1
    both = pixels(with_chunks(SMOOTH, gama(1.0), chrm(PRIMARIES[9])))
    wanted = expected(SMOOTH, PRIMARIES[9], linear=lambda values: values)
    assert np.abs(both - wanted).max() <= 1
    alone = pixels(with_chunks(SMOOTH, chrm(PRIMARIES[12])))
    assert np.abs(alone - expected(SMOOTH, PRIMARIES[12])).max() <= 1


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(0.45455)],
        [gama(0.45455), chrm(PRIMARIES[1])],
        [gama(0)],
        [chrm(((0, 0), (0, 0), (0, 0)))],
        [chrm(((0.3, 0.3), (0.3, 0.3), (0.3, 0.3)))],
        [chrm(((0.3, 0.00001), (0.3, 0.3), (0.2, 0.2)))],
        [(b"sRGB", b"\0"), gama(1.0), chrm(PRIMARIES[9])],
    ],
)
def test_what_is_srgb_or_senseless_changes_no_pixel(chunks):
    np.testing.assert_array_equal(pixels(with_chunks(SMOOTH, *chunks)), SMOOTH)


def test_which_description_of_a_png_counts():
    p3 = pixels(with_chunks(SMOOTH, cicp(12, 13)))
    profile = iccp(rgb_profile(P3_PRIMARIES, 1.0))
    by_profile = pixels(with_chunks(SMOOTH, profile))
    assert np.abs(by_profile.astype(int) - p3).max() > 5
    for rest in ([profile], [(b"sRGB", b"\0")], [gama(1.0), chrm(PRIMARIES[9])]):
        np.testing.assert_array_equal(pixels(with_chunks(SMOOTH, cicp(12, 13), *rest)), p3)
    np.testing.assert_array_equal(pixels(with_chunks(SMOOTH, cicp(1, 13), profile)), SMOOTH)
    both = with_chunks(SMOOTH, profile, gama(1.0), chrm(PRIMARIES[9]))
    np.testing.assert_array_equal(pixels(both), by_profile)


def test_a_gray_png():
    wanted = same_gray(255 * srgb_from_linear(GRAY / 255))
    for chunk in (gama(1.0), cicp(9, 8)):
        assert np.abs(pixels(with_chunks(GRAY, chunk)) - wanted).max() <= 1
    for chunk in (cicp(12, 13), chrm(PRIMARIES[12])):
        np.testing.assert_array_equal(pixels(with_chunks(GRAY, chunk)), same_gray(GRAY))


def test_a_palette_and_an_alpha():
    indexed = Image.fromarray(SMOOTH).quantize(64)
    table = np.asarray(indexed.convert("RGB"))
    result = pixels(with_chunks(indexed, cicp(12, 13)))
    assert np.abs(result - expected(table, PRIMARIES[12])).max() <= 1
    opaque = np.dstack([SMOOTH, np.full_like(GRAY, 255)])
    result = pixels(with_chunks(opaque, gama(1 / 1.8)))
    assert np.abs(result - 255 * srgb_from_linear((SMOOTH / 255) ** 1.8)).max() <= 1


def test_an_image_opened_by_pillow_is_read_alike():
    data = with_chunks(SMOOTH, gama(1.0), chrm(PRIMARIES[9]))
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), pixels(data))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(transfer, name):
    text = f"not supported: HDR colors ({name}); export it as SDR"
    assert text in refusal(with_chunks(SMOOTH, cicp(9, transfer)))
    assert text in refusal(with_chunks(GRAY, cicp(9, transfer)))
    tag = b"cicp\0\0\0\0" + bytes([9, transfer, 0, 1])
    profile = icc(b"RGB ", {b"cicp": tag})
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert text in refusal(encoded(SMOOTH, kind, icc_profile=profile))


@pytest.mark.parametrize("codes", [(3, 13), (200, 13), (1, 9), (1, 77), (10, 17)])
def test_unknown_codes_are_refused(codes):
    assert "not supported: its colors" in refusal(with_chunks(SMOOTH, cicp(*codes)))


def test_video_colors_in_a_png_are_refused():
    for codes in (cicp(1, 13, matrix=6), cicp(1, 13, full=0)):
        assert "not supported: a PNG in video colors" in refusal(with_chunks(SMOOTH, codes))


# ---- AVIF, HEIC ----


def avif():
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    return encoded(SMOOTH, "AVIF", quality=95, subsampling="4:4:4")


def heic():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(SMOOTH)).save(file, quality=95, chroma=444)
    return file.getvalue()


def recoded(data, primaries, transfer):
    """The same file with other numbers in each nclx."""
    parts = data.split(b"nclx")
    assert len(parts) > 1
    codes = struct.pack(">HH", primaries, transfer)
    return parts[0] + b"".join(b"nclx" + codes + part[4:] for part in parts[1:])


@pytest.mark.parametrize("make", [avif, heic])
def test_nclx_comes_to_srgb(make):
    data = make()
    plain = pixels(recoded(data, 1, 13)).astype(float)
    for primaries in (9, 12):
        result = pixels(recoded(data, primaries, 13))
        assert np.abs(result - plain).max() > 20
        assert np.abs(result - expected(plain, PRIMARIES[primaries])).max() <= 1
    linear = pixels(recoded(data, 1, 8))
    assert np.abs(linear - 255 * srgb_from_linear(plain / 255)).max() <= 1
    for codes in ((1, 1), (2, 2), (1, 6)):
        np.testing.assert_array_equal(pixels(recoded(data, *codes)), plain)
    assert "HDR colors (PQ)" in refusal(recoded(data, 9, 16))
    assert "HDR colors (HLG)" in refusal(recoded(data, 9, 18))


def test_a_profile_counts_before_nclx():
    avif()
    profile = rgb_profile(P3_PRIMARIES, 1.0)
    data = encoded(SMOOTH, "AVIF", quality=95, icc_profile=profile)
    plain = pixels(encoded(SMOOTH, "AVIF", quality=95))
    wanted = pixels(encoded(plain, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(pixels(data), wanted)


# ---- JPEG 2000 ----


def jp2_with_profile(image, bits, profile, method=2):
    samples = image if bits == 8 else image.astype(np.uint16) * 257
    data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, bitspersample=bits)
    box, header = data.index(b"colr") - 4, data.index(b"jp2h") - 4
    old = struct.unpack(">I", data[box : box + 4])[0]
    new = struct.pack(">I", 11 + len(profile)) + b"colr" + bytes([method, 0, 0]) + profile
    size = struct.unpack(">I", data[header : header + 4])[0] + len(new) - old
    return (
        data[:header] + struct.pack(">I", size) + data[header + 4 : box] + new + data[box + old :]
    )


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("method", [2, 3])
def test_a_profile_in_a_jp2(bits, method):
    profile = rgb_profile(P3_PRIMARIES, 2.2)
    result = pixels(jp2_with_profile(SMOOTH, bits, profile, method))
    wanted = pixels(encoded(SMOOTH, "PNG", icc_profile=profile))
    assert np.abs(wanted.astype(int) - SMOOTH).max() > 5
    np.testing.assert_array_equal(result, wanted)
    profile = coded_profile(12, 13, mode="RGB")
    result = pixels(jp2_with_profile(SMOOTH, bits, profile, method))
    assert np.abs(result - expected(SMOOTH, PRIMARIES[12])).max() <= 1


def test_a_color_space_of_a_vendor_is_refused():
    data = jp2_with_profile(SMOOTH, 8, bytes(16), method=4)
    assert "JPEG 2000 in a custom color space" in refusal(data)


# ---- boxes ----


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


def heif(*, primary=2, wide=False, long=False, joined=((2, 1), (1, 2))):
    """Properties 1 to 3, of which items have some; item 2 is the primary one by default."""
    item = ">I" if long else ">H"
    version = b"\1\0\0" if long else b"\0\0\0"
    properties = box(b"colr", b"nclxA") + box(b"colr", b"nclxB") + box(b"ispe", b"12345678")
    pairs = b"".join(
        struct.pack(item, number)
        + b"\1"
        + struct.pack(">H" if wide else ">B", index | (0x8000 if wide else 0x80))
        for number, index in joined
    )
    ipma = version + bytes([wide]) + struct.pack(">I", len(joined)) + pairs
    inside = box(b"pitm", version + b"\0" + struct.pack(item, primary))
    inside += box(b"iprp", box(b"ipco", properties) + box(b"ipma", ipma))
    return box(b"ftyp", b"mif1") + box(b"meta", bytes(4) + inside) + box(b"mdat", b"x")


def test_the_colors_of_the_primary_item():
    for wide in (False, True):
        for long in (False, True):
            data = heif(wide=wide, long=long)
            assert heif_colors(io.BytesIO(data)) == [b"nclxA"]
            data = heif(primary=1, wide=wide, long=long)
            assert heif_colors(io.BytesIO(data)) == [b"nclxB"]
    assert heif_colors(io.BytesIO(heif(joined=((2, 3),)))) == []
    assert heif_colors(io.BytesIO(heif(joined=((2, 9), (2, 0))))) == []
    assert heif_colors(io.BytesIO(heif(primary=7))) == []


def test_boxes_of_every_length():
    large = struct.pack(">I4sQ", 1, b"wide", 16 + 3) + b"abc"
    data = box(b"free", b"12") + large + struct.pack(">I4s", 0, b"last") + b"rest"
    found = [(kind, data[start:end]) for kind, start, end in boxes(io.BytesIO(data))]
    assert found == [(b"free", b"12"), (b"wide", b"abc"), (b"last", b"rest")]


def test_jp2():
    header = box(b"jp2h", box(b"ihdr", bytes(14)) + box(b"colr", b"one") + box(b"colr", b"two"))
    data = box(b"jP  ", b"1234") + header + box(b"jp2c", b"\xff\x4f\xff\x51")
    assert jp2_color(io.BytesIO(data)) == b"one"
    assert data[jp2_codestream(io.BytesIO(data)) :] == b"\xff\x4f\xff\x51"
    assert jp2_codestream(io.BytesIO(b"\xff\x4f\xff\x51...")) == 0
    assert jp2_color(io.BytesIO(b"\xff\x4f\xff\x51...")) == b""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(heif()) - 1), st.binary(min_size=1, max_size=12), st.integers(0, 200))
def test_any_bytes_give_colors_or_none(place, change, cut):
    data = bytearray(heif())
    data[place : place + len(change)] = change
    data = bytes(data[: len(data) - cut])
    assert isinstance(heif_colors(io.BytesIO(data)), list)
    assert isinstance(jp2_color(io.BytesIO(data)), bytes)
    for _, start, end in boxes(io.BytesIO(data)):
        assert 0 < start <= end <= len(data)
