"""Color descriptions in AVIF, HEIC and JPEG 2000 files that Pillow does not provide.

They are in the boxes of these ISO files, and become `info["icc_profile"]`. In AVIF and HEIC an
embedded profile, which Pillow and its plugins provide, takes precedence over nclx.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (items and their properties), 15444-1 annex I (JP2).
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.boxes import boxes
from qfm_iqm.image.profiles import coded_profile

_JP2_PLAIN = {0, 12, 15, 16, 17, 18}  # bilevel, CMYK, bilevel, sRGB, gray, sYCC: decoded rightly
_JP2_NAMES = {14: "CIELab", 20: "e-sRGB", 21: "ROMM-RGB", 24: "e-sYCC"}
_LARGEST = 1 << 24  # bytes of one box that is read into memory


def take_up_colors(image: Image.Image, stream: BinaryIO) -> None:
    """Sets an opened image's profile to the colors that its file describes.

    Raises:
        ImageError: the colors are known but cannot be converted to sRGB.
    """
    if image.format in ("AVIF", "HEIF") and not image.info.get("icc_profile"):
        for content in heif_colors(stream):
            if content[:4] == b"nclx" and len(content) >= 8:
                image.info["icc_profile"] = coded_profile(
                    *struct.unpack_from(">HH", content, 4), mode=image.mode
                )
    elif image.format == "JPEG2000":
        _take_up_jp2(image, jp2_color(stream))


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
            "not supported: JPEG 2000 in a custom color space; export it as an sRGB image"
        )


# ---- boxes ----


def heif_colors(stream: BinaryIO) -> list[bytes]:
    """The contents of the `colr` boxes of an AVIF's or HEIC's primary item."""
    meta = _content(stream, b"meta")[4:]  # after version and flags
    inside = {kind: meta[start:end] for kind, start, end in boxes(io.BytesIO(meta))}
    properties = io.BytesIO(inside.get(b"iprp", b""))
    parts = [(kind, properties.getvalue()[start:end]) for kind, start, end in boxes(properties)]
    listed: list[tuple[bytes, bytes]] = []
    for kind, content in parts:
        if kind == b"ipco":
            listed += [(name, content[a:b]) for name, a, b in boxes(io.BytesIO(content))]
    try:
        primary = _primary_item(inside[b"pitm"])
        indices = [
            index
            for kind, content in parts
            if kind == b"ipma"
            for item, index in _associations(content)
            if item == primary
        ]
    except (KeyError, IndexError, struct.error):  # no primary item, or a damaged box
        return []
    chosen = (listed[index - 1] for index in indices if 0 < index <= len(listed))
    return [content for kind, content in chosen if kind == b"colr"]


def jp2_color(stream: BinaryIO) -> bytes:
    """The content of a JP2's first `colr` box, which is the valid one; `b""` if there is none."""
    header = _content(stream, b"jp2h")
    for kind, start, end in boxes(io.BytesIO(header)):
        if kind == b"colr":
            return header[start:end]
    return b""


def jp2_codestream(stream: BinaryIO) -> int:
    """The offset of the codestream in a JPEG 2000 file, bare or in a JP2."""
    stream.seek(0)
    if stream.read(4) == b"\xff\x4f\xff\x51":
        return 0
    return next((start for kind, start, _ in boxes(stream) if kind == b"jp2c"), 0)


def _content(stream: BinaryIO, wanted: bytes) -> bytes:
    """The content of the first top-level box of a kind."""
    for kind, start, end in boxes(stream):
        if kind == wanted:
            stream.seek(start)
            return stream.read(min(end - start, _LARGEST))
    return b""


def _primary_item(content: bytes) -> int:
    version = content[:1]
    number: int = struct.unpack_from(">H" if version == b"\0" else ">I", content, 4)[0]
    return number


def _associations(content: bytes) -> Iterator[tuple[int, int]]:
    """Yields the (item, property index from 1) pairs of an `ipma` box."""
    version, wide = content[0], content[3] & 1
    (count,) = struct.unpack_from(">I", content, 4)
    place = 8
    for _ in range(count):
        item, joined = struct.unpack_from(">HB" if version < 1 else ">IB", content, place)
        place += 3 if version < 1 else 5
        for _ in range(joined):
            (index,) = struct.unpack_from(">H" if wide else ">B", content, place)
            place += 2 if wide else 1
            yield item, index & (0x7FFF if wide else 0x7F)
