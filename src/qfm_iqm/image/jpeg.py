"""JPEG: the pixels, and whether the file holds all of them.

JPEG has no checksum, and its decoder goes on over damaged data: it invents what is missing, and
says so in a warning. Pillow drops these warnings, so a file that lacks its lower half passes for
whole, and one that lacks nothing but its end marker does not. simplejpeg is the same decoder
(libjpeg-turbo, the same pixels to the bit) and hands the warnings on.

Design choices:
* The decoder gets what the pixels need and nothing else: comments and metadata, bytes between the
  segments and whatever follows the end marker cannot make a whole file look damaged.
* Every warning about compressed data counts as damage: too few, too many, or meaningless codes.
* Bytes that only fill up the end of the data are harmless.
* A span of zero bytes is damage even if the decoder gets through it, unless the tables say that
  zeros may be plain areas.

What stays unnoticed is a change after which the codes still come out even, such as most single
flipped bits.

An `ImageError` from here holds the reason alone; `image.reading` names the source before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import simplejpeg

from qfm_iqm.errors import ImageError

_START, _END = b"\xff\xd8", b"\xff\xd9"
# A marker that is neither a restart within compressed data nor a data byte of 255.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_EOI, _SOS, _DHT = 0xD9, 0xDA, 0xC4
_SEQUENTIAL = {0xC0, 0xC1}  # Huffman-coded frames whose every scan holds whole blocks
_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # not APP0 and APP14, which say what colours mean

_COLOURS = {"RGB": ("RGB", 3), "L": ("GRAY", 1), "CMYK": ("CMYK", 4)}
_LOSSES = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

_ZERO_RUN = 32  # bytes: more than a block of 63 equal coefficients
_READ_AHEAD = 16  # bytes that the decoder takes before it needs them, and does not count


@dataclass
class _Scan:
    """Compressed data of a JPEG.

    Attributes:
        zeros: whether a long run of zero bytes may be a picture.
        data: the bytes.
    """

    zeros: bool
    data: bytes = b""


@dataclass
class _Stream:
    """What the pixels need of a JPEG.

    Attributes:
        parts: of the file, in order, with compressed data among them.
        scans: the compressed data.
        ended: whether the file has an end marker.
    """

    parts: list[bytes] = field(default_factory=list)
    scans: list[_Scan] = field(default_factory=list)
    ended: bool = False


def decoded_jpeg(
    content: bytes, mode: str, size: tuple[int, int], *, allow_truncated: bool
) -> npt.NDArray[np.uint8] | None:
    """Decodes a JPEG, once.

    Args:
        content: the file, from the image's start marker on.
        mode: Pillow's mode of the image.
        size: its width and height.
        allow_truncated: whether to take what there is; what is missing is grey.

    Returns:
        (H, W, colours), CMYK as it is stored; None for a rare layout that this decoder refuses,
        such as unusual sampling factors.

    Raises:
        ImageError: the file does not hold all pixels, and `allow_truncated` is false.
        MemoryError: decoding takes more memory than there is.
    """
    if mode not in _COLOURS:
        return None
    name, colours = _COLOURS[mode]
    stream = _parsed(content)
    pixels = np.empty((size[1], size[0], colours), np.uint8)
    warning = ""
    try:
        # The pixels are in the buffer whether or not there is a warning.
        simplejpeg.decode_jpeg(
            b"".join(stream.parts), name, buffer=pixels, strict=not allow_truncated
        )
    except ValueError as error:
        warning = str(error)
        if "memory" in warning:
            raise MemoryError from error
        if not warning.startswith(_LOSSES):
            return None
    if not allow_truncated:
        _check(stream, warning)
    return pixels


def check_jpeg(content: bytes) -> None:
    """Refuses a JPEG, such as one within a TIFF, that does not hold all pixels.

    Raises:
        ImageError: see `decoded_jpeg`.
    """
    stream, warning = _parsed(content), ""
    try:
        simplejpeg.decode_jpeg(b"".join(stream.parts), "GRAY")  # the least work
    except ValueError as error:
        warning = str(error)
    if not warning or warning.startswith(_LOSSES):
        _check(stream, warning)


def _check(stream: _Stream, warning: str) -> None:
    """Refuses a stream that does not hold all pixels, by the decoder's first warning, if any."""
    if "remature end" in warning:
        raise ImageError("its data end too early (a truncated file)")
    if warning:
        # Some writers fill up the end. The decoder must have been done where the filling begins.
        found, data = _SURPLUS.search(warning), stream.scans[-1].data if stream.scans else b""
        filling = len(data) - len(data.rstrip(data[-1:]))
        surplus = int(found[1]) if found and stream.ended and len(stream.scans) == 1 else 0
        if surplus == 0 or not surplus <= filling <= surplus + _READ_AHEAD:
            raise ImageError("its data are damaged")
        stream.scans[0].data = data[:-surplus]
    if any(not scan.zeros and bytes(_ZERO_RUN) in scan.data for scan in stream.scans):
        raise ImageError("its data are damaged (a part of them is empty)")


def _parsed(content: bytes) -> _Stream:
    """Takes apart the first image of a file, up to its end marker."""
    stream = _Stream([_START])
    sequential, tables, place, scan = False, dict[int, int](), len(_START), None
    while not stream.ended:
        found = _MARKER.search(content, place)
        start = found.start() if found else len(content)
        if scan is not None:
            scan.data = content[place:start]
            stream.parts.append(scan.data)
            stream.scans.append(scan)
            scan = None
        if found is None:
            break
        marker = found[1][0]
        place = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        segment = content[start:place]
        if marker == _EOI:
            stream.ended = True
        elif marker in _SEQUENTIAL:
            sequential = True
        elif marker == _DHT:
            tables |= _first_symbols(segment[4:])
        elif marker == _SOS:
            scan = _Scan(not sequential or _may_be_zero(segment, tables))
            if sequential:  # some cameras write here what belongs into progressive files
                segment = segment[:-3] + b"\0\x3f\0"
        if marker != _EOI and marker not in _METADATA:
            stream.parts.append(segment)
    stream.parts.append(_END)
    return stream


def _may_be_zero(header: bytes, tables: dict[int, int]) -> bool:
    """Whether a long run of zero bytes may be a picture in the scan of blocks after a header.

    It may where zero bits say that a block is complete, as in plain areas. Where they are a
    coefficient they fill block after block with it, which no picture does.
    """
    return all(tables.get(selected & 15, 0) == 0 for selected in header[6:-3:2])


def _first_symbols(tables: bytes) -> dict[int, int]:
    """By its number: the symbol that zero bits stand for in each Huffman table for coefficients."""
    found = {}
    while len(tables) > 17:
        if tables[0] >> 4 == 1:  # else it is a table for mean values
            found[tables[0] & 15] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return found
