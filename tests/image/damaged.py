"""Files in every supported format, and seeded damage to them."""

import io
import random

import numpy as np
from PIL import Image

from .samples import PHOTO, encoded

SMALL = Image.fromarray(PHOTO[:96, :128])


def heic():
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(SMALL).save(file, quality=80)
    return file.getvalue()


WHOLE = {
    "jpeg": encoded(SMALL, "JPEG", quality=85),
    "jpeg-fine": encoded(SMALL, "JPEG", quality=97, subsampling=0),
    "jpeg-progressive": encoded(SMALL, "JPEG", quality=85, progressive=True),
    "jpeg-restarts": encoded(SMALL, "JPEG", quality=85, restart_marker_blocks=4),
    "jpeg-gray": encoded(SMALL.convert("L"), "JPEG", quality=85, optimize=True),
    "jpeg-cmyk": encoded(SMALL.convert("CMYK"), "JPEG", quality=85),
    "mpo": encoded(SMALL, "MPO", save_all=True, append_images=[SMALL.rotate(180)]),
    "png": encoded(SMALL, "PNG"),
    "png-palette": encoded(SMALL.quantize(64), "PNG"),
    "png-alpha": encoded(SMALL.convert("RGBA"), "PNG", pnginfo=None),
    "png-deep": encoded(np.asarray(SMALL.convert("L")).astype(np.uint16) * 257, "PNG"),
    "apng": encoded(SMALL, "PNG", save_all=True, append_images=[SMALL.rotate(180)]),
    "gif": encoded(SMALL.quantize(64), "GIF", interlace=0),
    "gif-interlaced": encoded(SMALL.quantize(64), "GIF", interlace=1),
    "webp": encoded(SMALL, "WEBP"),
    "webp-lossless": encoded(SMALL, "WEBP", lossless=True),
    "avif": encoded(SMALL, "AVIF"),
    "heic": heic(),
    "tiff": encoded(SMALL, "TIFF"),
    "tiff-lzw": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "tiff-deflate": encoded(SMALL, "TIFF", compression="tiff_adobe_deflate"),
    "tiff-packbits": encoded(SMALL, "TIFF", compression="packbits"),
    "tiff-jpeg": encoded(SMALL, "TIFF", compression="jpeg"),
    "tiff-fax": encoded(SMALL.convert("1"), "TIFF", compression="group4"),
    "bmp": encoded(SMALL, "BMP"),
    "ppm": encoded(SMALL, "PPM"),
    "jp2": encoded(SMALL, "JPEG2000"),
}


def truncated(content, draw):
    return content[: draw.randrange(1, len(content))]


def flipped(content, draw):
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 30])):
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def zeroed(content, draw):
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([16, 512, 4096, len(content)]))
    return content[:start] + bytes(end - start) + content[end:]


def cut_out(content, draw):
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.choice([1, 16, 512]) :]


def spliced(content, draw):
    other = WHOLE[draw.choice(sorted(WHOLE))]
    place = draw.randrange(1, len(content))
    return content[:place] + other[draw.randrange(len(other)) :]


DAMAGE = (truncated, flipped, zeroed, cut_out, spliced)


def damaged_files(count, seed=7):
    """`count` times a format and a damaged file of it: all formats and kinds of damage in turn."""
    draw = random.Random(seed)
    names = sorted(WHOLE)
    for number in range(count):
        name = names[number % len(names)]
        damage = DAMAGE[number // len(names) % len(DAMAGE)]
        yield name, damage(WHOLE[name], draw)
