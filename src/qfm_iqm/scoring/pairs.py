"""Files that belong to one photo: Live Photos, and RAW files with a JPEG.

They are recognized by names and, for movies, length. Names match if they are in the same folder and
differ only in their extensions.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from qfm_iqm.image.boxes import movie_seconds
from qfm_iqm.image.decode import open_file
from qfm_iqm.image.fetch import is_url
from qfm_iqm.image.raw import RAW_SUFFIXES

LIVE_SECONDS = 5.0  # a longer movie next to a photo is a separate video
_CAMERA = frozenset({".jpg", ".jpeg", ".heic", ".heif", ".hif"})  # written by cameras next to RAW


def followers(files: Iterable[str]) -> set[str]:
    """The files that belong to another one: RAW files with a JPEG, movies of Live Photos.

    Args:
        files: paths and URLs.

    Returns:
        Those whose main photo is also in `files`.
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
    """Whether a movie is as short as that of a Live Photo, by its header."""
    seconds = None
    with suppress(Exception), _opened(file) as stream:  # reading it later will raise the error
        seconds = movie_seconds(stream)
    return seconds is not None and seconds <= LIVE_SECONDS


def _opened(file: str) -> Any:
    if is_url(file):
        import fsspec

        return fsspec.open(file, "rb")
    return open_file(file)
