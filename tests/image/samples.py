"""Pictures of known pixels, files of them in many formats, and ways to read them back."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image, read_image_uint8

RNG = np.random.default_rng(5)

COLOR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)

GRAY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)

DEEP = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)

DEEP_COLOR = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)

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
    assert whole.dtype == np.uint8
    real = read_image(source, **options)
    assert real.dtype == torch.float32
    assert real.is_contiguous()
    assert whole.flags.c_contiguous
    assert np.array_equal((real * 255).round().to(torch.uint8), whole)
    return whole.transpose(1, 2, 0)


def floats(source, **options):
    return read_image(source, **options).permute(1, 2, 0).double().numpy()


def same_gray(gray):
    return np.repeat(np.asarray(gray)[..., None], 3, axis=2)


def png(width, height, depth, color_type, rows, *chunks):
    """A PNG by hand: `rows` are the raw bytes of each scanline."""

    def chunk(name, body):
        checksum = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
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


def refusal(source, **options):
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith("cannot read ")
    return text


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


MOST_HELD = """
def most_held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
"""
"""A function for scripts: the kilobytes that a process has had in memory at most (Linux).

`getrusage` would begin with the memory of the process that started it.
"""
