"""JPEG of other than 8 bits a color (12 in medicine and archives, lossless), by imagecodecs.

Pillow's plugin refuses them by their frame header. It parses the rest of such a file (size,
profile, EXIF) once its header says 8 bits, and imagecodecs decodes the file as it is.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

from qfm_iqm.errors import ImageError
from qfm_iqm.image.deferred import DeferredImage, eight_bits, needed, sixteen_bits

_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 ... SOF15
_ORIENTATION_TAG = 274
_END, _TRAILER = b"\xff\xd9", 1 << 12  # some programs write a few bytes behind the end


def open_jpeg(stream: BinaryIO, name: str) -> Image.Image:
    """Opens a JPEG; decodes no pixels yet.

    Raises:
        ImageError: it is whole, but of a layout that is not read.
        Exception: whatever Pillow raises over damaged data.
    """
    try:
        return JpegImagePlugin.jpeg_factory(stream, name)
    except SyntaxError as error:
        if re.fullmatch(r"cannot handle \d+-bit layers", str(error)) is None:
            raise
    stream.seek(0)
    content = stream.read()
    place = _precision(content)
    bits = content[place]
    codecs = needed("imagecodecs", f"JPEG with {bits} bits per color")
    image = JpegImagePlugin.JpegImageFile(
        io.BytesIO(content[:place] + b"\x08" + content[place + 1 :])
    )
    if image.mode not in ("L", "RGB") or not 2 <= bits <= 16:
        raise ImageError(f"not supported: JPEG with {bits} bits per color in {image.mode}")
    mode = "I;16" if image.mode == "L" and bits > 8 else image.mode

    def decode() -> Image.Image:
        if _END not in content[-_TRAILER:]:  # the library would fill what is missing
            raise ImageError("its data end too early (a truncated file)")
        samples = np.asarray(codecs.jpeg8_decode(content))
        scaled = sixteen_bits if mode == "I;16" else eight_bits
        return Image.fromarray(scaled(samples, (1 << bits) - 1))

    return DeferredImage(
        decode,
        like=("JPEG", mode, image.size),
        decoder_bytes=24,
        orientation=image.getexif().get(_ORIENTATION_TAG, 1),
        info=image.info,
    )


def _precision(content: bytes) -> int:
    """Where the frame header says how many bits a color has."""
    place = 2
    while place + 4 < len(content):
        if content[place + 1] in _FRAME_MARKERS:
            return place + 4
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    raise ValueError("it has no frame header")
