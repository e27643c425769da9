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

_ZERO_RUN = 64  # bytes: more than two blocks of 63 equal coefficients
_READ_AHEAD = 16  # bytes that the decoder takes before it needs them, and does not count


@dataclass
class _Stream:
    """What the pixels need of a JPEG.

    Attributes:
        parts: of the file, in order.
        scans: the compressed data among them.
        ended: whether the file has an end marker.
        sequential: whether each scan holds whole blocks, and not one aspect of all.
        zero_is_end: whether zero bits may say, in every table, that a block is complete.
    """

    parts: list[bytes] = field(default_factory=list)
    scans: list[bytes] = field(default_factory=list)
    ended: bool = False
    sequential: bool = False
    zero_is_end: bool = True


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


def _check(stream: _Stream, warning: str) -> None:
    """Refuses a stream that does not hold all pixels, by the decoder's first warning, if any."""
    if "remature end" in warning:
        raise ImageError("its data end too early (a truncated file)")
    scans = stream.scans
    if warning:
        # Some writers fill up the end. The decoder must have been done where the filling begins.
        found = _SURPLUS.search(warning)
        filling = len(scans[-1]) - len(scans[-1].rstrip(scans[-1][-1:])) if scans else 0
        surplus = int(found[1]) if found and stream.ended and len(scans) == 1 else 0
        if not surplus <= filling <= surplus + _READ_AHEAD or surplus == 0:
            raise ImageError("its data are damaged")
        scans = [scans[0][:-surplus]]
    # Where zero bits are some coefficient, such a run fills whole blocks with it: no picture does.
    fills_blocks = stream.sequential and not stream.zero_is_end
    if fills_blocks and any(bytes(_ZERO_RUN) in scan for scan in scans):
        raise ImageError("its data are damaged (a part of them is empty)")


def _parsed(content: bytes) -> _Stream:
    """Takes apart the first image of a file, up to its end marker."""
    stream = _Stream([_START])
    place, compressed = len(_START), False
    while not stream.ended:
        found = _MARKER.search(content, place)
        start = found.start() if found else len(content)
        if compressed:
            stream.scans.append(content[place:start])
            stream.parts.append(stream.scans[-1])
        if found is None:
            break
        marker = found[1][0]
        place = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        compressed, stream.ended = marker == _SOS, marker == _EOI
        segment = content[start:place]
        if marker in _SEQUENTIAL:
            stream.sequential = True
        elif marker == _SOS and stream.sequential:
            # Some cameras write nonsense into these fields of progressive files.
            segment = segment[:-3] + b"\0\x3f\0"
        elif marker == _DHT:
            stream.zero_is_end &= _zero_is_end(segment[4:])
        if not stream.ended and marker not in _METADATA:
            stream.parts.append(segment)
    stream.parts.append(_END)
    return stream


def _zero_is_end(tables: bytes) -> bool:
    """Whether the code of zeros says in each Huffman table for blocks that one is complete."""
    answer = True
    while len(tables) > 17:
        length = 17 + sum(tables[1:17])
        if tables[0] >> 4 == 1:  # else it is a table for mean values
            answer &= tables[17] == 0  # the first symbol has the code of zeros
        tables = tables[length:]
    return answer
