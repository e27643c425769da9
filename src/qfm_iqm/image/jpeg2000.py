"""JPEG 2000: Pillow's plugin for the layouts that it reads correctly, else imagecodecs.

Pillow shifts samples to 8 bits, or gray to 16. Above 8 bits of color, white wraps around to black;
when it shifts up, white stays below the maximum. The latter is rescaled here; imagecodecs decodes
colors above 8 bits.

Source: ISO/IEC 15444-1, A.5.1 (the SIZ segment).
"""

import struct
from typing import BinaryIO

import numpy as np
from PIL import Image, Jpeg2KImagePlugin

from qfm_iqm.errors import ImageError
from qfm_iqm.image.deferred import DeferredImage, needed, scaled
from qfm_iqm.image.file_colors import jp2_codestream, jp2_color

_SYCC = b"\1\0\0\0\0\0\x12"  # first bytes of a colr box: enumerated, sYCC


def open_jpeg2000(stream: BinaryIO, name: str) -> Image.Image:
    """Opens a JPEG 2000, bare or in a JP2; decodes no pixels yet.

    Raises:
        ImageError: the file is intact, but its layout is not supported.
        Exception: any exception of Pillow on damaged data.
    """
    size, precisions, subsampled = _components(stream)
    if len(precisions) > 4:
        raise ImageError(f"not supported: JPEG 2000 with {len(precisions)} components")
    stream.seek(0)
    image = Jpeg2KImagePlugin.Jpeg2KImageFile(stream, name)
    if set(precisions) <= {8} and image.mode != "I;16":
        return image
    bits = precisions[0]
    if len(precisions) == 1 and bits > 8:
        image._mode = "I;16"  # also for 9 bits, which Pillow treats as 8
    if len(set(precisions)) > 1 or bits > 16 or image.mode in ("P", "PA"):
        listed = ", ".join(map(str, precisions))
        raise ImageError(f"not supported: JPEG 2000 with components of {listed} bits")
    if image.size != size:
        raise ImageError("its header and its data contradict each other")
    if image.mode == "I;16" or bits < 8:
        return _deferred(image, lambda: _stretched(image, bits), 16)
    if subsampled:
        raise ImageError(f"not supported: JPEG 2000 with {bits} bits of colors at half size")
    codecs = needed("imagecodecs", f"JPEG 2000 with {bits} bits per color")
    is_sycc = jp2_color(stream).startswith(_SYCC)

    def decode() -> Image.Image:
        stream.seek(jp2_codestream(stream))  # only this: the library would apply profiles
        samples = codecs.jpeg2k_decode(stream.read())
        if samples.dtype.kind == "i":  # signed samples are without the standard's level shift
            samples = samples.astype(np.int32) + (1 << (bits - 1))
        pixels = scaled(samples, (1 << bits) - 1)
        if is_sycc:
            return Image.frombytes("YCbCr", image.size, pixels.tobytes()).convert("RGB")
        return Image.fromarray(pixels)

    return _deferred(image, decode, 20)


def _deferred(image: Image.Image, decode: object, decoder_bytes: int) -> Image.Image:
    return DeferredImage(
        decode,  # type: ignore[arg-type]
        like=("JPEG2000", image.mode, image.size),
        decoder_bytes=decoder_bytes,
        info=image.info,
    )


def _stretched(image: Image.Image, bits: int) -> Image.Image:
    """Rescales an image that Pillow shifted up from `bits`, so that white is the maximum."""
    image.load()
    full = 16 if image.mode == "I;16" else 8
    white = ((1 << bits) - 1) << (full - bits)
    return Image.fromarray(scaled(np.asarray(image), white, np.uint16 if full == 16 else np.uint8))


def _components(stream: BinaryIO) -> tuple[tuple[int, int], list[int], bool]:
    """Size, bits per component, and whether any component is subsampled, from the SIZ segment."""
    stream.seek(jp2_codestream(stream))
    head = stream.read(42)
    if head[:4] != b"\xff\x4f\xff\x51" or len(head) < 42:
        raise ValueError("there is no codestream")
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    (count,) = struct.unpack_from(">H", head, 40)
    body = stream.read(3 * count)
    precisions = [(value & 0x7F) + 1 for value in body[::3]]
    return (right - left, bottom - top), precisions, max((*body[1::3], *body[2::3]), default=1) > 1
