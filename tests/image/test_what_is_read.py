"""Each row of docs/formats.md: a file of its layout, read like another decoder reads it.

The other decoder is imagecodecs where Pillow reads. For lossless files, the result must equal the
pixels that were written.
"""

import io
import re
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image import resize as fitting
from qfm_iqm.image.decode import read_image, read_image_uint8
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.image.resize import as_floats, read_resized

from .raws import dng, jpeg_of
from .samples import PHOTO, SMOOTH, encoded, floats, png, refusal, same_gray, tiff

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
GRAY = np.ascontiguousarray(SMOOTH[..., 0])
ALPHA = np.linspace(0, 255, GRAY.size).round().astype(np.uint8).reshape(GRAY.shape)
STEP = 1 / 255  # of 8 bits
ROUNDED = 0.502 * STEP


def deep(image, bits):
    """8-bit values as values of `bits`, black and white kept."""
    white = (1 << bits) - 1
    values = np.rint(image.astype(np.float64) * (white / 255))
    return values.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)


def white_behind(image, alpha):
    weight = alpha[..., None] / 255
    return image / 255 * weight + 1 - weight


def tiff_of(samples, **options):
    file = io.BytesIO()
    options.setdefault("photometric", "rgb" if samples.shape[-1] == 3 else "minisblack")
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def jpeg():
    for image in (SMOOTH, GRAY):
        for options in ({}, {"progressive": True}):
            data = encoded(image, "JPEG", quality=95, **options)
            yield data, imagecodecs.jpeg8_decode(data) / 255, 2 * STEP


def jpeg_cmyk():
    data = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    inks = imagecodecs.jpeg8_decode(data) / 255  # as stored: inverted
    yield data, inks[..., :3] * inks[..., 3:], 2 * STEP


def jpeg_12():
    for image in (SMOOTH, GRAY):
        samples = deep(image, 12)
        data = imagecodecs.jpeg8_encode(samples, level=100, bitspersample=12, subsampling="444")
        yield data, samples / 4095, 2 * STEP


def jpeg_lossless():
    for bits in (8, 12, 16):
        samples = deep(SMOOTH, bits)
        data = imagecodecs.jpeg8_encode(samples, lossless=True, bitspersample=bits)
        yield data, samples / ((1 << bits) - 1), ROUNDED


def png_8():
    for image in (SMOOTH, GRAY, np.dstack([SMOOTH, ALPHA])):
        data = encoded(image, "PNG")
        decoded = imagecodecs.png_decode(data)
        alpha = decoded[..., 3] if decoded.shape[-1] == 4 else np.full(GRAY.shape, 255)
        colors = decoded[..., :3] if decoded.ndim == 3 else same_gray(decoded)
        yield data, white_behind(colors, alpha), 1.01 * STEP
    palette = encoded(Image.fromarray(SMOOTH).quantize(64), "PNG")
    yield palette, imagecodecs.png_decode(palette)[..., :3] / 255, 0
    for bits in (1, 2, 4):
        levels = (np.arange(8) % (1 << bits)).tolist()
        packed = int("".join(f"{level:0{bits}b}" for level in levels), 2).to_bytes(bits)
        data = png(8, 1, bits, 0, [packed])
        yield data, imagecodecs.png_decode(data) / 255, 1e-7


def png_16_gray():
    data = encoded(deep(GRAY, 16) ^ 77, "PNG")
    yield data, imagecodecs.png_decode(data) / 65535, 1e-6


def png_16():
    samples = deep(SMOOTH, 16) ^ 77
    data = imagecodecs.png_encode(samples)
    yield data, imagecodecs.png_decode(data) / 65535, STEP
    pair = np.dstack([deep(GRAY, 16), deep(ALPHA, 16)])
    yield imagecodecs.png_encode(pair), white_behind(same_gray(GRAY), ALPHA), 2 * STEP


def webp():
    for options in ({"quality": 90}, {"lossless": True}):
        data = encoded(SMOOTH, "WEBP", **options)
        yield data, imagecodecs.webp_decode(data)[..., :3] / 255, 2 * STEP
    data = encoded(np.dstack([SMOOTH, ALPHA]), "WEBP", lossless=True, exact=True)
    decoded = imagecodecs.webp_decode(data, hasalpha=True)
    yield data, white_behind(decoded[..., :3], decoded[..., 3]), 1.01 * STEP


def avif():
    for bits in (8, 10, 12):
        data = imagecodecs.avif_encode(deep(SMOOTH, bits), level=95, bitspersample=bits)
        yield data, imagecodecs.avif_decode(data) / ((1 << bits) - 1), 3 * STEP


def heic():
    heif = pytest.importorskip("pillow_heif")
    for mode, samples in (("RGB", SMOOTH), ("RGB;16", deep(SMOOTH, 16))):
        file = io.BytesIO()
        size = SMOOTH.shape[1::-1]
        heif.encode(mode, size, samples.tobytes(), file, quality=100, chroma=444)
        yield file.getvalue(), SMOOTH / 255, 4 * STEP


def gif():
    image = Image.fromarray(SMOOTH).quantize(64)
    data = encoded(image, "GIF")
    yield data, imagecodecs.gif_decode(data) / 255, 0
    transparent = encoded(image, "GIF", transparency=3)
    hidden = np.asarray(image) == 3
    yield transparent, np.where(hidden[..., None], 1, np.asarray(image.convert("RGB")) / 255), 1e-7


def bmp():
    for image in (SMOOTH, GRAY):
        data = encoded(image, "BMP")
        yield data, imagecodecs.bmp_decode(data) / 255, 1e-7
    yield encoded(Image.fromarray(GRAY > 99), "BMP"), (GRAY > 99)[..., None], 0


def bmp_v5(image, alpha, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)):
    """A 32-bit BMP with a V5 header: bit fields, sRGB."""
    height, width = alpha.shape
    rows = np.dstack([image[..., ::-1], alpha])[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0)
    head += struct.pack("<4I4s", *masks, b"BGRs")
    return b"BM" + struct.pack("<IHHI", 138 + len(rows), 0, 0, 138) + head.ljust(124, b"\0") + rows


def bmp_without_alpha():
    yield bmp_v5(SMOOTH, np.zeros_like(ALPHA)), SMOOTH / 255, 1e-7
    yield bmp_v5(SMOOTH, ALPHA), white_behind(SMOOTH, ALPHA), 1.01 * STEP


def bmp_bit_fields():
    masks = (0x3FF00000, 0xFFC00, 0x3FF, 0)
    yield bmp_v5(SMOOTH, ALPHA, masks), "not supported: BMP bitfields layout"


def ppm():
    for bits, image in ((8, SMOOTH), (16, SMOOTH), (8, GRAY), (16, GRAY)):
        samples = deep(image, bits)
        kind = b"P6" if image.ndim == 3 else b"P5"
        head = b"%s 64 48 %d\n" % (kind, (1 << bits) - 1)
        yield head + samples.astype(">u2" if bits == 16 else "u1").tobytes(), image / 255, ROUNDED


def pfm_gray():
    samples = (GRAY / 255).astype("<f4")
    yield b"Pf\n64 48\n-1.0\n" + samples[::-1].tobytes(), samples, 1 / 65535


def pfm_color():
    yield b"PF\n64 48\n-1.0\n" + SMOOTH.astype("<f4").tobytes(), "not supported: color PFM"


def jpeg2000(image, bits, *, signed=False, bare=False):
    samples = deep(image, bits)
    if signed:
        samples = (samples.astype(np.int32) - (1 << bits - 1)).astype(np.int16)
    form = "j2k" if bare else "jp2"
    return imagecodecs.jpeg2k_encode(
        samples, level=0, reversible=True, bitspersample=bits, codecformat=form
    )


def jpeg2000_few():
    for bits in (1, 2, 4, 5, 7, 8):
        for bare in (False, True):
            yield jpeg2000(SMOOTH, bits, bare=bare), deep(SMOOTH, bits) / ((1 << bits) - 1), ROUNDED
    for bits in (8, 9, 10, 12, 15, 16):
        for signed in (False, True) if bits > 8 else (False,):
            expected = deep(GRAY, bits) / ((1 << bits) - 1)
            yield jpeg2000(GRAY, bits, signed=signed), expected, 1 / 65535


def jpeg2000_deep():
    for bits in (9, 10, 12, 14, 16):
        for signed in (False, True):
            for bare in (False, True):
                expected = deep(SMOOTH, bits) / ((1 << bits) - 1)
                yield jpeg2000(SMOOTH, bits, signed=signed, bare=bare), expected, ROUNDED
        pair = np.dstack([GRAY, ALPHA])
        yield jpeg2000(pair, bits), white_behind(same_gray(GRAY), ALPHA), 2 * STEP
        four = np.dstack([SMOOTH, ALPHA])
        yield jpeg2000(four, bits), white_behind(SMOOTH, ALPHA), 2 * STEP


def in_space(data, space):
    """A JP2 whose color space is another enumerated one."""
    place = data.index(b"colr") + 7
    return data[:place] + struct.pack(">I", space) + data[place + 4 :]


def jpeg2000_sycc():
    y, b, r = (np.moveaxis(np.asarray(Image.fromarray(SMOOTH).convert("YCbCr")), 2, 0)) / 1.0
    expected = np.dstack(
        [
            y + 1.402 * (r - 128),
            y - 0.344136 * (b - 128) - 0.714136 * (r - 128),
            y + 1.772 * (b - 128),
        ]
    )
    coded = np.asarray(Image.fromarray(SMOOTH).convert("YCbCr"))
    for bits in (8, 12, 16):
        yield in_space(jpeg2000(coded, bits), 18), np.clip(expected, 0, 255) / 255, 2 * STEP


def jpeg2000_other_spaces():
    for bits in (8, 16):
        yield in_space(jpeg2000(SMOOTH, bits), 14), "not supported: JPEG 2000 in CIELab"
        yield in_space(jpeg2000(SMOOTH, bits), 99), "not supported: JPEG 2000 in an unusual"


def tiff_plain():
    for bits in (8, 16):
        yield tiff_of(deep(SMOOTH, bits)), SMOOTH / 255, ROUNDED
        yield tiff_of(deep(GRAY, bits)), GRAY / 255, 1e-6
        yield tiff_of(deep(255 - GRAY, bits), photometric="miniswhite"), GRAY / 255, 1e-6
        inks = np.dstack([255 - SMOOTH, np.zeros_like(GRAY)])
        yield tiff_of(deep(inks, bits), photometric="separated"), SMOOTH / 255, STEP
    yield tiff_of(GRAY > 99), GRAY > 99, 0
    palette = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)]).astype(np.uint16)
    data = tiff_of(GRAY, photometric="palette", colormap=palette * 257)
    yield data, palette.T[GRAY] / 255, 1e-7


def tiff_arranged():
    for bits in (8, 16):
        samples = deep(SMOOTH, bits)
        for options in ({}, {"bigtiff": True}, {"tile": (32, 16)}):
            for order in "<>":
                for squeezed in (None, "zlib"):
                    data = tiff_of(samples, byteorder=order, compression=squeezed, **options)
                    yield data, SMOOTH / 255, ROUNDED
                    planes = np.moveaxis(samples, 2, 0)
                    data = tiff_of(
                        planes,
                        byteorder=order,
                        compression=squeezed,
                        photometric="rgb",
                        planarconfig="separate",
                        **options,
                    )
                    yield data, SMOOTH / 255, ROUNDED


def tiff_compressed():
    for compression in ("zlib", "lzw", "packbits", "lzma", "zstd"):
        yield tiff_of(SMOOTH, compression=compression), SMOOTH / 255, 1e-7
        if compression != "packbits":
            for samples in (SMOOTH, deep(SMOOTH, 16)):
                data = tiff_of(samples, compression=compression, predictor=True)
                yield data, SMOOTH / 255, ROUNDED
            data = tiff_of((GRAY / 255).astype("f4"), compression=compression, predictor=3)
            yield data, GRAY / 255, 1 / 65535
    data = tiff_of(SMOOTH, compression="jpeg", compressionargs={"level": 95})
    yield data, imagecodecs.tiff_decode(data, asrgb=True)[..., :3] / 255, 2 * STEP


def tiff_codecs():
    lossless = {"level": 100}
    yield tiff_of(SMOOTH, compression="webp", compressionargs=lossless), SMOOTH / 255, 1e-7
    for bits in (8, 16):
        samples = deep(SMOOTH, bits)
        for compression in ("jpeg2000", "jpegxl", "lerc", "png"):
            yield tiff_of(samples, compression=compression), SMOOTH / 255, ROUNDED


def tiff_32():
    for options in ({}, {"tile": (32, 16)}, {"compression": "zlib", "predictor": True}):
        yield tiff_of(deep(SMOOTH, 32), **options), SMOOTH / 255, ROUNDED
        yield tiff_of(deep(GRAY, 32), **options), GRAY / 255, 1 / 65535
    yield tiff_of(SMOOTH.astype(np.uint32)), "highest value is 255 of 4294967295"


def tiff_odd_bits():
    for bits in (10, 12, 14):
        samples = deep(SMOOTH, bits)
        yield tiff_of(samples, bitspersample=bits), samples / ((1 << bits) - 1), ROUNDED
        gray = np.ascontiguousarray(samples[..., 0])
        yield tiff_of(gray, bitspersample=bits), gray / ((1 << bits) - 1), 1 / 65535


def tiff_float():
    for kind in ("f2", "f4", "f8"):
        samples = (SMOOTH / 255).astype(kind)
        for options in ({}, {"compression": "zlib", "predictor": 3}, {"byteorder": ">"}):
            yield tiff_of(samples, **options), samples.astype(float), ROUNDED
            gray = np.ascontiguousarray(samples[..., 0])
            yield tiff_of(gray, **options), gray.astype(float), 1 / 65535
        inverse = (1 - samples[..., 0]).astype(kind)
        yield tiff_of(inverse, photometric="miniswhite"), 1 - inverse.astype(float), 1 / 65535
        yield tiff_of((samples * 1.5).astype(kind)), "floats in 0..1"


def tiff_gray_alpha():
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    pair = deep(np.dstack([GRAY, ALPHA]), 16)
    expected = white_behind(same_gray(GRAY), ALPHA)
    yield tiff_of(pair, extrasamples=["unassalpha"], **options), expected, 2 * STEP
    pair[..., 0] = np.rint(pair[..., 0] * (ALPHA / 255))
    yield tiff_of(pair, extrasamples=["assocalpha"], **options), expected, 2.5 * STEP


def tiff_cmyk_alpha():
    for bits in (8, 16):
        inks = deep(np.dstack([255 - SMOOTH, np.zeros_like(GRAY), ALPHA]), bits)
        data = tiff_of(inks, photometric="separated", extrasamples=["unassalpha"])
        yield data, white_behind(SMOOTH, ALPHA), 2 * STEP


def from_lab(lightness):
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / (24389 / 27))
    return np.where(
        luminance <= 0.0031308, 12.92 * luminance, 1.055 * luminance ** (1 / 2.4) - 0.055
    )


def tiff_lab():
    """Grays, since a and b are where the two encodings differ most."""
    expected = same_gray(from_lab(GRAY / 2.55))
    zero = np.zeros_like(GRAY)
    middle = zero + 128
    yield tiff(64, 48, [8] * 3, 8, np.dstack([GRAY, zero, zero]).tobytes()), expected, 3 * STEP
    data = tiff_of(np.dstack([GRAY, middle, middle]), photometric="icclab")
    yield data, expected, 3 * STEP
    wide = np.dstack([GRAY * 257.0, zero, zero]).astype(np.uint16)
    yield tiff_of(wide, photometric="cielab"), expected, 3 * STEP
    wide = np.dstack([GRAY * 256.0, middle * 256.0, middle * 256.0]).astype(np.uint16)
    yield tiff_of(wide, photometric="icclab"), expected, 3 * STEP


def tiff_signed():
    for kind in ("i1", "i2", "i4"):
        yield tiff_of((SMOOTH // 2).astype(kind)), "not supported: TIFF with signed"
        yield tiff_of((GRAY // 2).astype(kind)), "not supported: TIFF with signed"


def tiff_refused():
    yield tiff_of(SMOOTH, photometric="logluv"), "not supported: TIFF with 8-bit LogLuv"
    yield tiff_of(SMOOTH.astype("c8")), "not supported: TIFF with unusual 64-bit RGB"
    volume = np.stack([PHOTO] * 32)
    data = tiff_of(volume, photometric="rgb", volumetric=True, tile=(16, 32, 32))
    yield data, "not supported: TIFF with 8-bit RGB samples in a volume"


def pages(*marked):
    """A TIFF of pages: each a (NewSubfileType, pixels)."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for kind, samples in marked:
            colors = "mask" if kind == 4 else "rgb"
            writer.write(samples, subfiletype=kind, photometric=colors, metadata=None)
    return file.getvalue()


SMALL = np.ascontiguousarray(255 - SMOOTH[::4, ::4])


def tiff_reduced_first():
    yield pages((1, SMALL), (0, SMOOTH)), SMOOTH / 255, 1e-7
    yield pages((1, SMALL), (4, GRAY > 99), (2, SMOOTH), (0, SMALL)), SMOOTH / 255, 1e-7
    yield pages((0, SMOOTH), (1, SMALL)), SMOOTH / 255, 1e-7
    yield pages((1, SMALL), (0, deep(SMOOTH, 32))), SMOOTH / 255, ROUNDED


def tiff_reduced_alone():
    yield pages((1, SMALL)), "all its pages are marked as reduced copies"
    yield pages((1, SMALL), (1, SMOOTH)), "all its pages are marked as reduced copies"


def raw_like(*, first=1, below=32803, main=None):
    """A preview with the sensor's values in a page below it, as cameras write them."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            SMALL,
            subfiletype=first,
            photometric="rgb",
            subifds=1,
            metadata=None,
        )
        main = deep(GRAY, 16) if main is None else main
        writer.write(main, photometric=below, metadata=None)
    return file.getvalue()


def raw():
    preview = np.asarray(Image.fromarray(SMOOTH).resize((48, 36)))
    decoded = imagecodecs.jpeg8_decode(jpeg_of(preview))
    # Without a DNG version it is a TIFF, like NEF and ARW.
    for options in ({}, {"linear": True}, {"version": False}):
        yield dng(SMOOTH, preview=preview, **options), decoded / 255, 2 * STEP


def raw_of_other_kinds():
    text = "not supported: a camera RAW file of this kind; export it as JPEG, PNG or TIFF"
    yield raw_like(below=34892, main=deep(SMOOTH, 16)), text
    yield tiff_of(GRAY, photometric=32803), text
    cr2 = bytearray(tiff_of(SMOOTH))
    cr2[8:11] = b"CR\2"
    yield bytes(cr2), text
    for start in (
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0",
        b"MMOR\0\0\0\x08",
        b"IIU\0\x18\0\0\0",
        b"FOVb\0\0\2\0",
        b"\0MRM\0\0\0\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
        b"II\x1a\0\0\0HEAPCCDR",
    ):
        yield start + bytes(200), text


CASES = {
    ("JPEG", "8-bit RGB, gray; baseline, progressive"): jpeg,
    ("JPEG", "8-bit CMYK"): jpeg_cmyk,
    ("JPEG", "12-bit RGB, gray"): jpeg_12,
    ("JPEG", "lossless, 8 to 16 bits"): jpeg_lossless,
    ("PNG", "1 to 8 bits, gray, RGB, palette, alpha"): png_8,
    ("PNG", "16-bit gray"): png_16_gray,
    ("PNG", "16-bit RGB, or gray with alpha"): png_16,
    ("WebP", "lossy, lossless, alpha"): webp,
    ("AVIF", "8, 10, 12 bits"): avif,
    ("HEIC", "8, 10 bits"): heic,
    ("GIF", "palette, transparency"): gif,
    ("BMP", "1 to 32 bits"): bmp,
    ("BMP", "alpha that is 0 everywhere"): bmp_without_alpha,
    ("BMP", "unusual bit fields"): bmp_bit_fields,
    ("PPM, PGM", "8 and 16 bits"): ppm,
    ("PFM", "gray"): pfm_gray,
    ("PFM", "RGB"): pfm_color,
    ("JPEG 2000", "up to 8 bits; gray up to 16"): jpeg2000_few,
    ("JPEG 2000", "9 to 16 bits, RGB or alpha, also signed"): jpeg2000_deep,
    ("JPEG 2000", "sYCC"): jpeg2000_sycc,
    ("JPEG 2000", "CIELab and other color spaces"): jpeg2000_other_spaces,
    ("TIFF", "1 to 16 bits, gray, RGB, palette, CMYK"): tiff_plain,
    ("TIFF", "planes, tiles, BigTIFF"): tiff_arranged,
    ("TIFF", "Deflate, LZW, PackBits, JPEG, LZMA, Zstandard, with predictors"): tiff_compressed,
    ("TIFF", "WebP, JPEG 2000, JPEG XL, LERC, PNG inside"): tiff_codecs,
    ("TIFF", "32-bit unsigned"): tiff_32,
    ("TIFF", "10, 12, 14 bits"): tiff_odd_bits,
    ("TIFF", "half, single, double float"): tiff_float,
    ("TIFF", "16-bit gray with alpha"): tiff_gray_alpha,
    ("TIFF", "CMYK with alpha"): tiff_cmyk_alpha,
    ("TIFF", "CIELab, ICCLab"): tiff_lab,
    ("TIFF", "signed samples"): tiff_signed,
    ("TIFF", "LogLuv, complex, volumes"): tiff_refused,
    ("TIFF", "a reduced copy first, then the image"): tiff_reduced_first,
    ("TIFF", "only reduced copies"): tiff_reduced_alone,
    ("RAW", "DNG, NEF, CR2, CR3, ARW, RAF, ORF, RW2 and others"): raw,
    ("RAW", "kinds that libraw does not read"): raw_of_other_kinds,
}


def rows():
    table = PAGE.read_text("utf-8").split("<!-- formats -->")[1].split("<!-- end -->")[0]
    cells = [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.strip().splitlines()[2:]]
    return [tuple(row[:2]) for row in cells]


def test_the_page_lists_what_is_tested():
    assert rows() == list(CASES)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.__name__)
def test_a_file_is_read_as_another_decoder_reads_it(case):
    files = list(case())
    assert files
    for number, (data, expected, *tolerance) in enumerate(files):
        if isinstance(expected, str):
            text = refusal(data)
            assert expected in text, number
            assert "damaged" not in text
            continue
        expected = np.asarray(expected, dtype=float)
        if expected.ndim == 2:
            expected = same_gray(expected)
        result = floats(data)
        assert result.shape[:2] == expected.shape[:2], number
        assert np.abs(result - expected).max() <= tolerance[0] + 1e-7, number


FORMATS_EXTRA = [jpeg_12, jpeg2000_deep, tiff_codecs, tiff_32, tiff_float, tiff_cmyk_alpha]


@pytest.mark.parametrize("case", FORMATS_EXTRA, ids=lambda case: case.__name__)
def test_without_the_extra_the_sentence_says_what_to_install(case, monkeypatch):
    data, *_ = next(iter(case()))
    for library in ("tifffile", "imagecodecs"):
        monkeypatch.setitem(sys.modules, library, None)
    text = refusal(data)
    assert "not supported: " in text
    assert text.endswith("pip install 'qfm-iqm[formats]'")
    assert not re.search(r"\(\d+\)", text)


@pytest.mark.parametrize("case", FORMATS_EXTRA, ids=lambda case: case.__name__)
def test_a_file_cut_short_is_refused(case):
    data, *_ = next(iter(case()))
    for part in (0.3, 0.6, 0.9):
        text = refusal(data[: int(len(data) * part)])
    assert case.__name__.startswith("jpeg2000") or text.endswith("(a truncated file)")


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([*FORMATS_EXTRA, tiff_reduced_first, raw]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_files_are_read_or_refused(case, changes):
    data = bytearray(next(iter(case()))[0])
    for place, value in changes:
        span = min(len(data), 300) if value % 2 else len(data)
        data[int(place * (span - 1))] = value
    with suppress(ImageError):
        assert read_image_uint8(bytes(data), max_pixels=1_000_000).size > 0


def test_the_size_is_checked_before_the_pixels_are_decoded():
    for case in FORMATS_EXTRA:
        data, *_ = next(iter(case()))
        assert "exceed the limit" in refusal(data, max_pixels=100)


@pytest.mark.parametrize("case", FORMATS_EXTRA, ids=lambda case: case.__name__)
@pytest.mark.parametrize("side", [None, 32])
def test_strips_give_what_the_whole_image_gives(case, side, monkeypatch):
    monkeypatch.setattr(fitting, "STRIP_PIXELS", 500)
    preprocessing = Preprocessing(crop=16, shorter_side=side)
    for data, expected, *_ in case():
        if not isinstance(expected, str):
            fitted = as_floats(read_resized(data, preprocessing).pixels)
            np.testing.assert_array_equal(
                fitted, resize_and_pad(read_image(data), preprocessing).numpy()
            )


MEASURE = """
import sys
from contextlib import suppress
from pathlib import Path
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.resize import decoding_bytes
from qfm_iqm.image.resize import read_resized
from qfm_iqm.image.decode import opened
preprocessing = Preprocessing(crop=64, shorter_side=128)
small, large = sys.argv[1:]
def peak():
    status = Path("/proc/self/status").read_text().split()
    return 1024 * int(status[status.index("VmHWM:") + 1])
read_resized(small, preprocessing)
with opened(large) as picture:
    estimate = decoding_bytes(picture, preprocessing)
before = peak()
read_resized(large, preprocessing)
print((peak() - before) / estimate)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak there")
@pytest.mark.parametrize("kind", ["jpeg2000", "planes", "jpeg"])
def test_decoding_takes_no_more_memory_than_was_estimated(kind, tmp_path):
    for name, side in (("small", 64), ("large", 2000)):
        samples = np.zeros((side, side, 3), np.uint16)
        samples[:, ::2] = 4095
        if kind == "jpeg2000":
            data = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True)
        elif kind == "jpeg":
            data = imagecodecs.jpeg8_encode(samples, level=90, bitspersample=12)
        else:
            planes = np.moveaxis(samples.astype(np.uint32) << 20, 2, 0)
            data = tiff_of(planes, photometric="rgb", planarconfig="separate", compression="zlib")
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, tmp_path / "small", tmp_path / "large"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert 0.2 < float(done.stdout) <= 1


def test_orientation_of_what_pillow_does_not_read():
    tag = [(274, "H", 1, 6, True)]
    turned = floats(tiff_of(deep(SMOOTH, 32), extratags=tag))
    np.testing.assert_allclose(turned, np.rot90(SMOOTH, -1) / 255, atol=ROUNDED)


def test_a_profile_of_what_pillow_does_not_read_is_applied():
    from .test_color import P3_PRIMARIES, rgb_profile

    profile = rgb_profile(P3_PRIMARIES, 2.2)
    expected = floats(encoded(SMOOTH, "TIFF", icc_profile=profile))
    result = floats(tiff_of(deep(SMOOTH, 32), iccprofile=profile))
    assert np.abs(expected - SMOOTH / 255).max() > 5 * STEP
    np.testing.assert_array_equal(result, expected)


def test_bytes_are_never_read_twice_as_other_sizes():
    """A JP2 whose header says another size than its data."""
    data = jpeg2000(SMOOTH, 16)
    place = data.index(b"ihdr") + 4
    lying = data[:place] + struct.pack(">II", 8, 8) + data[place + 8 :]
    assert "contradict" in refusal(lying)
    assert read_image(data).shape == (3, 48, 64)
