"""The colors that a file describes and Pillow does not hand over -> `info["icc_profile"]`.

Which description counts where there are several: in PNG cICP, then iCCP, sRGB, and gAMA with cHRM
(third edition, section 4.3); in AVIF and HEIC the profile, then nclx. Pillow hands over iCCP, sRGB,
gAMA and cHRM; `image.color` takes them up, so that an image opened by Pillow is read alike.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.containers import heif_colors, jp2_color
from qfm_iqm.image.profiles import coded_profile

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "F")

_JP2_PLAIN = {0, 12, 15, 16, 17, 18}  # bilevel, CMYK, bilevel, sRGB, grey, sYCC: as decoded
_JP2_NAMES = {14: "CIELab", 20: "e-sRGB", 21: "ROMM-RGB", 24: "e-sYCC"}


def take_up_colors(image: Image.Image, stream: BinaryIO) -> None:
    """Gives an opened image the profile of the colors that its file describes.

    Raises:
        ImageError: the colors are known and cannot be brought to sRGB.
    """
    grey = image.mode in GREY_MODES
    if image.format == "PNG":
        _take_up_png(image, stream, grey)
    elif image.format in ("AVIF", "HEIF") and not image.info.get("icc_profile"):
        for content in heif_colors(stream):
            if content[:4] == b"nclx" and len(content) >= 8:
                image.info["icc_profile"] = coded_profile(
                    *struct.unpack_from(">HH", content, 4), grey=grey
                )
    elif image.format == "JPEG2000":
        _take_up_jp2(image, jp2_color(stream))


def _take_up_png(image: Image.Image, stream: BinaryIO, grey: bool) -> None:
    codes = _png_chunk(stream, b"cICP")
    if len(codes) == 4:
        primaries, transfer, matrix, full_range = codes
        if matrix or not full_range:
            raise ImageError("not supported: a PNG in video colors; export it as an sRGB image")
        image.info["icc_profile"] = coded_profile(primaries, transfer, grey=grey)


def _png_chunk(stream: BinaryIO, wanted: bytes) -> bytes:
    """The first chunk of a kind before a PNG's pixels; `b""` if there is none or it is damaged."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == wanted:
            content, checksum = stream.read(min(size, 64)), stream.read(4)
            told = zlib.crc32(kind + content).to_bytes(4) == checksum
            return content if told else b""  # a damaged description describes nothing
        if kind in (b"IDAT", b"IEND"):
            break
        stream.seek(size + 4, 1)
    return b""


def _take_up_jp2(image: Image.Image, content: bytes) -> None:
    method = content[:1]
    if method in (b"\2", b"\3"):
        image.info["icc_profile"] = content[3:]
    elif method == b"\1" and len(content) >= 7:
        (space,) = struct.unpack_from(">I", content, 3)
        if space not in _JP2_PLAIN:
            name = _JP2_NAMES.get(space, "an unusual color space")
            raise ImageError(f"not supported: JPEG 2000 in {name}; export it as an sRGB image")
    elif method:
        raise ImageError(
            "not supported: JPEG 2000 in a color space of its own; export it as an sRGB image"
        )
