"""Images in files that hold many: `shard.tar/000017.jpg` and `train.parquet/000017.jpg` are paths.

A process reads once what such a file says of its members, and then each member from its place.
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import BinaryIO, Protocol

from qfm_iqm.errors import ImageError
from qfm_iqm.image.parquet import read_parquet
from qfm_iqm.image.tar import read_tar

_KNOWN = 32  # archives whose members a process keeps in mind


class Archive(Protocol):
    """What is known of an archive."""

    @property
    def kind(self) -> str:
        """What it is, in words."""

    @property
    def members(self) -> Mapping[str, object]:
        """Its members by name, in order."""

    @property
    def damage(self) -> str:
        """Why there may be more that cannot be found; empty for an archive that is whole."""

    @property
    def only_images(self) -> bool:
        """Whether each member is an image, whatever it is called."""

    @property
    def is_table(self) -> bool:
        """Whether it is a table of other things: folders pass over it."""

    def open(self, name: str) -> BinaryIO:
        """Opens a member of that name.

        Raises:
            ImageError: it cannot be read; says the reason alone.
            OSError: the archive cannot be opened.
        """


_READERS: Mapping[str, Callable[[str], Archive]] = {".tar": read_tar, ".parquet": read_parquet}
_INTO = re.compile(f"(?:{'|'.join(map(re.escape, _READERS))})/", re.IGNORECASE)


def is_archive(path: str) -> bool:
    """Whether a path is that of an archive on this machine, by its name."""
    return _ending(path) in _READERS and os.path.isfile(path)  # noqa: PTH113 - any bytes


def split_member(path: str) -> tuple[str, str] | None:
    """The archive and the name in it that a path means; None for one that leads into no archive."""
    for found in _INTO.finditer(path):
        archive, name = path[: found.end() - 1], path[found.end() :]
        if name and is_archive(archive):
            return archive, name
    return None


def read_archive(path: str) -> Archive:
    """Reads what an archive says of its members, or remembers it while the file has not changed.

    Raises:
        OSError: it cannot be opened.
    """
    now = os.stat(path)  # noqa: PTH116 - a str keeps names that Path would rewrite
    return _read(path, now.st_size, now.st_mtime_ns)


def open_member(archive: str, name: str) -> BinaryIO:
    """Opens a file in an archive.

    Raises:
        ImageError: there is none of that name; says the reason alone.
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
