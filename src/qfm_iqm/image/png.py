"""PNG: passes Pillow only the chunks that the pixels need, and checks the pixels.

Pillow refuses an image because of a wrong checksum in a comment or a profile that is large when
decompressed, but it overlooks wrong checksums and missing rows of the pixels. Here:

* text and animation chunks are skipped, and a color chunk with a wrong checksum is ignored;
* the checksums of the pixels are checked, and every row must be present;
* metadata that exceed a limit when decompressed are ignored;
* colors in cICP take precedence over a profile, sRGB, and gAMA with cHRM (third edition, 4.3);
* opening reads no pixels; the orientation may be stored after them.

An `ImageError` raised here holds only the reason; `image.decode` adds the source's name.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from PIL.PngImagePlugin import PngImageFile

from qfm_iqm.errors import ImageError
from qfm_iqm.image.profiles import coded_profile

_Key = str | tuple[int, int]  # keys of Pillow's `info`

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = b"IDAT"
_SHOWN = {b"IHDR", b"PLTE", b"tRNS"}  # required for correct pixels
_COLORS = {b"cHRM", b"cICP", b"cLLI", b"gAMA", b"mDCV", b"sBIT", b"sRGB"}
_METADATA = {b"eXIf", b"iCCP", b"iTXt", b"tEXt", b"zTXt"}

_MOST = 1 << 24  # largest size of a chunk or of its decompressed content, in bytes
_PIECE = 1 << 16
_CHECKSUM = 4  # bytes of a checksum, of chunks and of compressed data


@dataclass(frozen=True)
class _Chunk:
    """A chunk's kind, and position and length of its body."""

    kind: bytes
    start: int
    length: int


def open_png(stream: BinaryIO, name: str = "") -> PngImageFile:
    """Opens a PNG by its header, like Pillow's plugin.

    Raises:
        ImageError: the header is damaged.
        Exception: any exception of Pillow on damaged data.
    """
    header, metadata = [_SIGNATURE], dict[_Key, str | bytes]()
    codes: bytes | None = None  # the first cICP, unless it is damaged
    for chunk in _chunks(stream):
        if chunk.kind == _PIXELS:
            header.append(struct.pack(">I", chunk.length) + _PIXELS)
            break
        if chunk.kind in _SHOWN | _COLORS | _METADATA and chunk.length <= _MOST:
            body, valid = _body(stream, chunk)
            if chunk.kind == b"cICP" and codes is None:
                codes = body if valid else b""
            if chunk.kind in _METADATA:
                metadata |= _described(chunk.kind, body)
            elif valid:
                header.append(_encoded(chunk.kind, body))
            elif chunk.kind in _SHOWN:
                raise ImageError("its data are damaged (a wrong checksum)")
    image = PngImageFile(io.BytesIO(b"".join(header)), name)
    image.info |= metadata
    if codes is not None and len(codes) == 4:
        primaries, transfer, matrix, full_range = codes
        if matrix or not full_range:
            raise ImageError("not supported: a PNG in video colors; export it as an sRGB image")
        image.info["icc_profile"] = coded_profile(primaries, transfer, mode=image.mode)
    image.fp = stream
    return image


def prepare_png(image: PngImageFile, *, allow_truncated: bool) -> None:
    """Makes an opened PNG read its pixels through this module, with checks, when it is loaded.

    Its `load` then raises an `ImageError` if a checksum is wrong and `allow_truncated` is False.
    """
    pixels = _pixel_data(image, cast(BinaryIO, image.fp), not allow_truncated)

    def rest() -> None:
        for _ in pixels:
            pass

    def piece(read_bytes: int) -> bytes:
        return next(pixels, b"")

    image.load_read = piece  # type: ignore[method-assign]
    image.load_end = rest  # type: ignore[method-assign]


def _pixel_data(image: PngImageFile, stream: BinaryIO, checked: bool) -> Iterator[bytes]:
    """Yields the compressed pixels in pieces; adds metadata that follow to the image.

    The last byte, of a checksum, is held back. The decoder requests it only if rows are missing,
    whatever the compressed data say about their end. (It needs one byte more than the pixels to go
    on with a repetition over several rows.)
    """
    found = passed = False
    kept = b""
    for chunk in _chunks(stream):
        if chunk.kind == _PIXELS and not passed:
            found, sum_ = True, zlib.crc32(_PIXELS)
            for start in range(0, chunk.length, _PIECE):
                if not (piece := stream.read(min(_PIECE, chunk.length - start))):
                    break  # the end of the file
                sum_ = zlib.crc32(piece, sum_)
                kept += piece
                if len(kept) > 1:
                    yield kept[:-1]
                    kept = kept[-1:]
            stored = stream.read(_CHECKSUM)
            # If the file ends here, the decoder decides whether the data suffice.
            if checked and len(stored) == _CHECKSUM and stored != struct.pack(">I", sum_):
                raise ImageError("its data are damaged (a wrong checksum)")
        elif found:
            passed = True
            if chunk.kind in _METADATA and chunk.length <= _MOST:
                image.info |= _described(chunk.kind, _body(stream, chunk)[0])


# ---- chunks ----


def _chunks(stream: BinaryIO) -> Iterator[_Chunk]:
    """Yields the chunks of a PNG, with the stream at the body of each."""
    place = len(_SIGNATURE)
    while True:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        (length,) = struct.unpack(">I", head[:4])
        yield _Chunk(head[4:], place + 8, length)
        place += 8 + length + _CHECKSUM


def _body(stream: BinaryIO, chunk: _Chunk) -> tuple[bytes, bool]:
    """The body of a chunk, and whether its checksum is correct."""
    stream.seek(chunk.start)
    body = stream.read(chunk.length)
    return body, stream.read(_CHECKSUM) == _encoded(chunk.kind, body)[-_CHECKSUM:]


def _encoded(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# ---- metadata ----


def _described(kind: bytes, body: bytes) -> dict[_Key, str | bytes]:
    """A metadata chunk as items of Pillow's `info`: a profile, or data with the orientation.

    A wrong checksum of the chunk does not matter. Profiles have their own checksum and are ignored
    if it is wrong; the other metadata are trusted no more than in formats without checksums.
    """
    name, _, rest = body.partition(b"\0")
    if kind == b"eXIf":
        return {"exif": b"Exif\0\0" + body}
    if kind == b"iCCP" and (profile := _inflated(rest[1:])):
        return {"icc_profile": profile}
    if kind == b"iTXt" and name == b"XML:com.adobe.xmp":
        text = rest[2:].split(b"\0", 2)[-1]
        return {"xmp": _inflated(text) if rest[:1] == b"\1" else text}
    if name == b"Raw profile type exif" and kind in (b"tEXt", b"zTXt"):
        text = _inflated(rest[1:]) if kind == b"zTXt" else rest
        return {"Raw profile type exif": text.decode("latin-1")}
    return {}


def _inflated(data: bytes) -> bytes:
    """Decompressed data; empty if they are damaged or too large."""
    with suppress(zlib.error):
        decoder = zlib.decompressobj()
        found = decoder.decompress(data, _MOST)
        if decoder.eof:
            return found
    return b""
