"""Detects video files, their format, and whether they are truncated.

The content determines FFmpeg's demuxer, and only self-contained formats are allowed: no playlists,
which would open other files.

Sources: ISO/IEC 14496-12 (MP4, MOV), RFC 8794 (EBML, of Matroska and WebM).
"""

from typing import BinaryIO

from qfm_iqm.image import boxes

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3g2 .mkv .webm .avi .mts .m2ts .mpg "  # noqa: SIM905
    ".mpeg .vob .wmv .asf .flv .ogv".split()
)
"""File extensions of videos, in lower case."""

HEADER = 1000  # number of first bytes that identify a video

_IMAGES = (b"avi", b"hei", b"hev", b"mif", b"msf", b"crx", b"jp2", b"jpx", b"jxl")  # brands
_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"\0\0\1\xba", "mpeg"),
    (0, b"FLV\1", "flv"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"OggS", "ogg"),
)
_PACKETS = ((188, 0), (192, 4))  # MPEG-TS: packet length, offset of the sync byte
_SEGMENT, _UNKNOWN_SIZE = b"\x18\x53\x80\x67", (1 << 56) - 1


def container_of(header: bytes) -> str | None:
    """FFmpeg's name of the video format with these first `HEADER` bytes; None for other files."""
    if header[4:8] == b"ftyp":
        return None if header[8:11] in _IMAGES else "mov"
    if header[4:8] in boxes.MOVIE:
        return "mov"
    for length, place in _PACKETS:
        if header[place::length][:5] == b"GGGGG":
            return "mpegts"
    found = (kind for at, mark, kind in _SIGNATURES if header[at:].startswith(mark))
    return next(found, None)


def is_cut(file: BinaryIO, kind: str | None) -> bool:
    """Whether a file is shorter than its header says; False for formats without a length."""
    length = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEADER)
    if kind == "mov":
        return boxes.is_cut(file)
    if kind == "avi":
        return int.from_bytes(head[4:8], "little") + 8 > length
    if kind == "matroska" and (place := head.find(_SEGMENT)) > 0:
        size, begin = _ebml_size(head, place + len(_SEGMENT))
        return size != _UNKNOWN_SIZE and begin + size > length
    return False


def _ebml_size(data: bytes, place: int) -> tuple[int, int]:
    """The variable-length size of an EBML element, and the offset of its content."""
    first = data[place] if place < len(data) else 0
    count = 9 - first.bit_length()
    if not first or place + count > len(data):
        return _UNKNOWN_SIZE, 0
    size = int.from_bytes(data[place : place + count]) & ((1 << 7 * count) - 1)
    return (_UNKNOWN_SIZE if size == (1 << 7 * count) - 1 else size), place + count
