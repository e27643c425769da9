"""Files that are one photo: Live Photos, and RAW files beside their JPEG.

Only names and, of a movie, its length decide. Names match if they lie in one folder and differ in
their endings alone.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from qfm_iqm.image.boxes import movie_seconds
from qfm_iqm.image.decode import open_file
from qfm_iqm.image.fetch import is_url
from qfm_iqm.image.raw import RAW_SUFFIXES

LIVE_SECONDS = 5.0  # a longer movie beside a photo is a video of its own
_CAMERA = frozenset({".jpg", ".jpeg", ".heic", ".heif", ".hif"})  # what cameras write beside RAW


def followers(files: Iterable[str]) -> set[str]:
    """The files that count with another one: a RAW file with its JPEG, a Live Photo's movie.

    Args:
        files: paths and URLs.

    Returns:
        Those of them whose photo is among them too.
    """
    beside: dict[str, dict[str, str]] = {}
    for file in files:
        stem, suffix = os.path.splitext(file)  # noqa: PTH122 - names may hold any bytes
        beside.setdefault(stem, {})[suffix.lower()] = file
    found = set()
    for group in beside.values():
        if _CAMERA.isdisjoint(group):
            continue
        found |= {group[suffix] for suffix in RAW_SUFFIXES.intersection(group)}
        if ".mov" in group and _is_short(group[".mov"]):
            found.add(group[".mov"])
    return found


def _is_short(file: str) -> bool:
    """Whether a movie says that it is as short as that of a Live Photo."""
    seconds = None
    with suppress(Exception), _opened(file) as stream:  # reading it will say why
        seconds = movie_seconds(stream)
    return seconds is not None and seconds <= LIVE_SECONDS


def _opened(file: str) -> Any:
    if is_url(file):
        import fsspec

        return fsspec.open(file, "rb")
    return open_file(file)
