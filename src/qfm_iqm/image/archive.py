"""Images in archives, addressed as `shard.tar/000017.jpg` or `train.parquet/000017.jpg`.

A process reads an archive's index once, and then each member from its position.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import BinaryIO, Protocol

from qfm_iqm.errors import ImageError
from qfm_iqm.image.parquet import read_parquet
from qfm_iqm.image.tar import read_tar

_KNOWN = 32  # archives whose index a process caches


class Archive(Protocol):
    """The index of an archive."""

    @property
    def kind(self) -> str:
        """Description of the archive's format."""

    @property
    def members(self) -> Mapping[str, object]:
        """The members by name, in order."""

    @property
    def damage(self) -> str:
        """Why members may be missing; empty if the archive is intact."""

    @property
    def only_images(self) -> bool:
        """Whether every member is an image, whatever its name."""

    @property
    def is_table(self) -> bool:
        """Whether it is a table without images, which is ignored in folders."""

    def open(self, name: str) -> BinaryIO:
        """Opens a member by its name.

        Raises:
            ImageError: it cannot be read; the message holds only the reason.
            OSError: the archive cannot be opened.
        """


_READERS: Mapping[str, Callable[[str], Archive]] = {".tar": read_tar, ".parquet": read_parquet}
_INTO = re.compile(f"(?:{'|'.join(map(re.escape, _READERS))})/", re.IGNORECASE)


def is_archive(path: str) -> bool:
    """Whether a path is an existing local file with an archive's extension."""
    return _ending(path) in _READERS and os.path.isfile(path)  # noqa: PTH113 - any bytes


def split_member(path: str) -> tuple[str, str] | None:
    """Splits a path into an archive and a member's name; None if it is not in an archive."""
    for found in _INTO.finditer(path):
        archive, name = path[: found.end() - 1], path[found.end() :]
        if name and is_archive(archive):
            return archive, name
    return None


def read_archive(path: str) -> Archive:
    """Reads an archive's index; cached as long as the file has not changed.

    Raises:
        OSError: it cannot be opened.
    """
    now = os.stat(path)  # noqa: PTH116 - a str keeps names that Path would rewrite
    return _read(path, now.st_size, now.st_mtime_ns)


def open_member(archive: str, name: str) -> BinaryIO:
    """Opens a file in an archive.

    Raises:
        ImageError: there is no such file in it; the message holds only the reason.
        OSError: the archive cannot be opened.
    """
    found = read_archive(archive)
    if name not in found.members:
        raise ImageError(found.damage or "there is no such file in the archive")
    return found.open(name)


@lru_cache(maxsize=_KNOWN)
def _read(path: str, size: int, changed: int) -> Archive:
    return _READERS[_ending(path)](path)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - names may hold any bytes
