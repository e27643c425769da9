"""Boxes of ISO base media files: AVIF, HEIC, JPEG 2000, CR3, MP4 and MOV.

Source: ISO/IEC 14496-12.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_FAR = 1 << 62
MOVIE = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""First boxes of QuickTime files that predate `ftyp`."""


def boxes(
    stream: BinaryIO, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Yields the boxes from `start` to `end`, up to the first invalid one; the last may be cut.

    Yields:
        Kind, and start and end of the content.
    """
    if end is None:
        end = stream.seek(0, os.SEEK_END)
    while start + 8 <= end:
        stream.seek(start)
        head = stream.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        body = start + 8
        if size == 1 and len(head) == 16:
            size, body = struct.unpack_from(">Q", head, 8)[0], start + 16
        elif size == 0:
            size = end - start
        if start + size < body:
            return
        yield kind, body, min(start + size, end)
        start += size


def is_cut(stream: BinaryIO) -> bool:
    """Whether a file made of boxes ends within one of them; False for any other file."""
    stream.seek(4)
    if stream.read(4) not in (b"ftyp", *MOVIE):
        return False
    length = stream.seek(0, os.SEEK_END)
    # A box without a size extends to the end of the file.
    return any(length < end < _FAR for _, _, end in boxes(stream, 0, _FAR))


def movie_seconds(stream: BinaryIO) -> float | None:
    """The duration in an MP4's or MOV's header, in seconds; None if there is none."""
    for kind, start, end in boxes(stream):
        if kind != b"moov":
            continue
        for inner, place, _ in boxes(stream, start, end):
            if inner == b"mvhd":
                stream.seek(place)
                head = stream.read(32)
                try:
                    if head[:1] == b"\0":
                        scale, length = struct.unpack_from(">II", head, 12)
                    else:
                        scale, length = struct.unpack_from(">IQ", head, 20)
                except struct.error:
                    return None
                return length / scale if scale else None
    return None
