"""Decodes JPEG, and checks whether the file holds all pixels.

JPEG has no checksum, and its decoder continues over damaged data: it fills in missing pixels and
emits a warning. Pillow drops these warnings, so it accepts a file without its lower half but
refuses one without its end marker. simplejpeg uses the same decoder (libjpeg-turbo, bit-identical
pixels) and passes the warnings on.

Design choices:
* The decoder gets only the segments that the pixels need, so that comments, metadata, bytes between
  segments and bytes after the end marker cannot make an intact file look damaged.
* Every warning about compressed data counts as damage: too few, too many, or invalid codes.
* A progressive file that ends between two scans causes no warning, so the coefficients that its
  scans send are counted.
* Padding at the end of the data is harmless.
* A run of zero bytes counts as damage even if it decodes, unless by the Huffman tables zeros may be
  plain areas.
* Pillow's plugin refuses depths other than 8 bits per color (12 in medicine and archives, lossless)
  by the frame header. With a header changed to 8 bits it parses the rest of such a file (size,
  profile, EXIF), and imagecodecs decodes the original file.

Changes that leave the codes valid are not detected, such as most single bit flips.

An `ImageError` raised here holds only the reason; `image.decode` adds the source's name.

Source: ITU-T T.81, annex B.
"""

import io
import re
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, JpegImagePlugin

from qfm_iqm.arrays import Bytes
from qfm_iqm.errors import DAMAGED, TRUNCATED, ImageError
from qfm_iqm.image.deferred import DeferredImage, needed, scaled

_START, _END = b"\xff\xd8", b"\xff\xd9"
# A marker that is neither a restart in compressed data nor an escaped 0xFF byte.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_EOI, _SOS, _DHT, _PROGRESSIVE = 0xD9, 0xDA, 0xC4, 0xC2
_SEQUENTIAL = {0xC0, 0xC1}  # Huffman-coded frames whose scans hold whole blocks
_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # not APP0 and APP14, which define the colors

_COLORS = {"RGB": ("RGB", 3), "L": ("GRAY", 1), "CMYK": ("CMYK", 4)}
_LOSSES = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
_SURPLUS = re.compile(r"(\d+) extraneous bytes before marker 0xd9")

_ZERO_RUN = 32  # bytes: more than a block of 63 equal coefficients
_GRAY = 128
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 ... SOF15
_TRAILER = 1 << 12  # some programs write a few bytes after the end
_READ_AHEAD = 16  # bytes that the decoder reads ahead and does not count


@dataclass
class _Stream:
    """The parts of a JPEG that the pixels need.

    Attributes:
        parts: parts of the file, in order.
        scans: indices of the parts with compressed data, and whether zero bytes may be valid there.
        ended: whether the file has an end marker.
        unsent: (component, coefficient) pairs of a progressive file whose last bit no scan sends.
    """

    parts: list[bytes] = field(default_factory=list)
    scans: dict[int, bool] = field(default_factory=dict)
    ended: bool = False
    unsent: set[tuple[int, int]] = field(default_factory=set)


def decoded_jpeg(
    content: bytes, mode: str, size: tuple[int, int], *, allow_truncated: bool, scale: int = 1
) -> Bytes | None:
    """Decodes a JPEG.

    Args:
        content: the file, from the image's start marker on.
        mode: Pillow's mode of the image.
        size: width and height.
        allow_truncated: accept a truncated file; missing pixels are gray.
        scale: 2, 4 or 8 to reduce each side by this factor in a fraction of the time: only the
            lowest frequencies of each 8 x 8 block are transformed.

    Returns:
        Pixels (H, W, colors), with CMYK as stored; None for a rare layout that this decoder
        refuses, such as unusual sampling factors.

    Raises:
        ImageError: the file does not hold all pixels, and `allow_truncated` is False.
        MemoryError: there is not enough memory.
    """
    if mode not in _COLORS:
        return None
    name, colors = _COLORS[mode]
    stream = _parsed(content)
    width, height = (-(-side // scale) for side in size)
    pixels = np.full((height, width, colors), _GRAY, np.uint8)  # kept where decoding stops
    warning = _decode(stream, name, pixels, strict=not allow_truncated)
    if warning is None:
        return None
    if not allow_truncated:
        _check(stream, warning, name, pixels)
    return pixels


def check_jpeg(content: bytes) -> None:
    """Refuses a JPEG, such as one in a TIFF, that does not hold all pixels.

    Raises:
        ImageError: see `decoded_jpeg`.
    """
    stream = _parsed(content)
    warning = _decode(stream, "GRAY")  # the least work
    if warning is not None:
        _check(stream, warning, "GRAY")


def _decode(
    stream: _Stream, name: str, pixels: Bytes | None = None, strict: bool = True
) -> str | None:
    """Decodes a stream.

    Args:
        stream: the JPEG.
        name: name of the output colors.
        pixels: output buffer, whose size determines the decoded size; None discards the pixels. It
            is filled even if there is a warning.
        strict: report warnings.

    Returns:
        The decoder's first warning; empty if there was none; None if it refuses the layout.
    """
    height, width = (0, 0) if pixels is None else pixels.shape[:2]
    try:
        simplejpeg.decode_jpeg(
            b"".join(stream.parts),
            name,
            min_height=height,
            min_width=width,
            buffer=pixels,
            strict=strict,
        )
    except ValueError as error:
        said = str(error)
        if said.startswith("Insufficient memory"):
            raise MemoryError from error
        return said if said.startswith(_LOSSES) else None
    return ""


def _check(stream: _Stream, warning: str, name: str, pixels: Bytes | None = None) -> None:
    """Refuses a stream that does not hold all pixels; see `_decode`."""
    if _without_filling(stream, warning):
        warning = _decode(stream, name, pixels) or ""
    if stream.unsent or (warning and ("remature end" in warning or not stream.ended)):
        raise ImageError(TRUNCATED)
    if warning:
        raise ImageError(DAMAGED)
    if any(not zeros and bytes(_ZERO_RUN) in stream.parts[i] for i, zeros in stream.scans.items()):
        raise ImageError("its data are damaged (a part of them is empty)")


def _without_filling(stream: _Stream, warning: str) -> bool:
    """Removes padding of equal bytes at the end, if the decoder's warning was about it.

    The pixels must end where the padding begins: zeros that were decoded as pixels are no padding.
    """
    found = _SURPLUS.search(warning)
    if found is None or not stream.ended or len(stream.scans) != 1:
        return False
    (place,), surplus = stream.scans, int(found[1])
    data = stream.parts[place]
    filling = len(data) - len(data.rstrip(data[-1:]))
    if not surplus <= filling <= surplus + _READ_AHEAD:
        return False
    stream.parts[place] = data[:-surplus]
    return True


def _parsed(content: bytes) -> _Stream:
    """Parses the first image of a file, up to its end marker."""
    stream = _Stream([_START])
    sequential, tables, place = False, dict[int, int](), len(_START)
    zeros: bool | None = None  # for the data that follow; None if they are not compressed
    while not stream.ended:
        found = _MARKER.search(content, place)
        start = found.start() if found else len(content)
        if zeros is not None:
            stream.scans[len(stream.parts)] = zeros
            stream.parts.append(content[place:start])
            zeros = None
        if found is None:
            break
        marker = found[1][0]
        place = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        segment = content[start:place]
        if marker == _EOI:
            stream.ended = True
        elif marker in _SEQUENTIAL:
            sequential = True
        elif marker == _PROGRESSIVE:
            stream.unsent = {(component, n) for component in segment[10::3] for n in range(64)}
        elif marker == _DHT:
            tables |= _first_symbols(segment[4:])
        elif marker == _SOS:
            zeros = not sequential or _may_be_zero(segment, tables)
            if sequential:  # some cameras write values for progressive files here
                segment = segment[:-3] + b"\0\x3f\0"
            elif len(segment) >= 10 and segment[-1] & 15 == 0:  # sends the last bit
                sent = range(segment[-3], segment[-2] + 1)
                stream.unsent -= {(component, n) for component in segment[5:-3:2] for n in sent}
        if marker != _EOI and marker not in _METADATA:
            stream.parts.append(segment)
    stream.parts.append(_END)
    return stream


def _may_be_zero(header: bytes, tables: dict[int, int]) -> bool:
    """Whether a long run of zero bytes may be valid data in the scan after a header.

    It may if zero bits mean that a block is complete, as in plain areas. If they stand for a
    coefficient, they would repeat it in block after block, which no picture does.
    """
    return all(tables.get(selected & 15, 0) == 0 for selected in header[6:-3:2])


def _first_symbols(tables: bytes) -> dict[int, int]:
    """The symbol that zero bits stand for in each AC Huffman table, by the table's number."""
    found = {}
    while len(tables) > 17:
        if tables[0] >> 4 == 1:  # AC; otherwise it is a DC table
            found[tables[0] & 15] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return found


# ---- depths other than 8 bits per color ----


def open_jpeg(stream: BinaryIO, name: str) -> Image.Image:
    """Opens a JPEG; decodes no pixels yet.

    Raises:
        ImageError: the file is intact, but its layout is not supported.
        Exception: any exception of Pillow on damaged data.
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
        if _END not in content[-_TRAILER:]:  # the library would fill in missing pixels
            raise ImageError(TRUNCATED)
        samples = np.asarray(codecs.jpeg8_decode(content))
        kind = np.uint16 if mode == "I;16" else np.uint8
        return Image.fromarray(scaled(samples, (1 << bits) - 1, kind))

    return DeferredImage(
        decode,
        like=("JPEG", mode, image.size),
        decoder_bytes=24,
        orientation=image.getexif().get(ExifTags.Base.Orientation, 1),
        info=image.info,
    )


def _precision(content: bytes) -> int:
    """The offset of the number of bits per color in the frame header."""
    place = 2
    while place + 4 < len(content):
        if content[place + 1] in _FRAME_MARKERS:
            return place + 4
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    raise ValueError("it has no frame header")
