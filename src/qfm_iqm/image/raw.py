"""Camera RAW files that tell by their first bytes; `image.tiff_pages` knows those in TIFF.

They hold what a sensor measured, which takes a converter with choices of its own to become a photo.
What can be decoded at once in them is a preview, whose score is not the photo's.
"""

from __future__ import annotations

from typing import NoReturn

from qfm_iqm.errors import ImageError

_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW"),  # RAF
    (0, b"IIRO"),  # ORF, of both byte orders and of later cameras
    (0, b"MMOR"),
    (0, b"IIRS"),
    (0, b"IIU\0"),  # RW2, RWL
    (0, b"\0MRM"),  # MRW
    (0, b"FOVb"),  # X3F
    (0, b"ARRI"),
    (4, b"ftypcrx "),  # CR3
    (6, b"HEAPCCDR"),  # CRW
    (8, b"CR\2"),  # CR2, a TIFF
    (8, b"IIIITwaR"),  # IIQ, a TIFF
    (8, b"MMMMRawT"),
)


def is_raw(header: bytes) -> bool:
    """Whether a file's first 16 bytes are those of a camera RAW file."""
    return any(header[at:].startswith(mark) for at, mark in _SIGNATURES)


def refuse_raw() -> NoReturn:
    """Says that the file is a camera RAW file."""
    raise ImageError(
        "it is a camera RAW file, which is not read yet; export it as JPEG, PNG or TIFF"
    )
