"""Images in tar archives, as WebDataset's shards hold them: `shard.tar/000017.jpg` is such a path.

Nothing is extracted: a member is a piece of its archive and is read from there. A process reads the
headers of an archive once. Archives are local and not compressed: only there a member can be found
without reading what lies before it.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, cast

from qfm_iqm.errors import ImageError

ENDING = ".tar"
_BLOCK = 512  # bytes; a block of zeros ends an archive
_KNOWN = 32  # archives whose headers a process keeps


@dataclass(frozen=True)
class Archive:
    """What an archive's headers say.

    Attributes:
        members: where the content of each regular file begins, and its length, by name. Of files of
            one name it is the last, as extracting them all would leave it; of files that break off
            it is none.
        damage: why there may be more that cannot be found; empty for an archive that is whole.
    """

    members: Mapping[str, tuple[int, int]]
    damage: str


def is_archive(path: str) -> bool:
    """Whether a path is that of a tar archive on this machine, by its name."""
    return path.lower().endswith(ENDING) and os.path.isfile(path)  # noqa: PTH113 - any bytes


def split_member(path: str) -> tuple[str, str] | None:
    """The archive and the name in it that a path means; None for one that leads into no archive."""
    for found in re.finditer(r"\.tar/", path, re.IGNORECASE):
        archive, name = path[: found.end() - 1], path[found.end() :]
        if name and is_archive(archive):
            return archive, name
    return None


def read_archive(path: str) -> Archive:
    """Reads the headers of an archive, or remembers them while the file has not changed.

    Raises:
        OSError: it cannot be opened.
    """
    now = os.stat(path)  # noqa: PTH116 - a str keeps names that Path would rewrite
    return _read_headers(path, now.st_size, now.st_mtime_ns)


def open_member(archive: str, name: str) -> BinaryIO:
    """Opens a file in an archive.

    Raises:
        ImageError: there is none of that name; says the reason alone.
        OSError: the archive cannot be opened.
    """
    found = read_archive(archive)
    if name not in found.members:
        raise ImageError(found.damage or "there is no such file in the archive")
    # A buffer over the piece is all that a reader of files asks for.
    return cast(BinaryIO, io.BufferedReader(_Piece(archive, *found.members[name])))


@lru_cache(maxsize=_KNOWN)
def _read_headers(path: str, size: int, changed: int) -> Archive:
    members: dict[str, tuple[int, int]] = {}
    headers = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                headers += 1
                plain = member.isreg() and not member.issparse()
                if plain and member.offset_data + member.size <= size:
                    members[member.name] = (member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
            end = tar.offset
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            file.seek(end)
            whole = file.read(_BLOCK) == bytes(_BLOCK)
    except OSError:
        raise
    except Exception:  # tarfile raises many kinds over damaged headers
        whole = False
    if whole:
        return Archive(members, "")
    if headers:
        return Archive(members, f"the archive breaks off or is damaged after {len(members)} files")
    return Archive(members, "it is no tar archive, or a compressed one")


class _Piece(io.RawIOBase):
    """A stretch of a file, to be read as if it were a file of its own."""

    def __init__(self, path: str, start: int, length: int) -> None:
        super().__init__()
        self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - closed by `close`
        self._start, self._length, self._at = start, length, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place within the stretch, or after it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError("there is nothing before the beginning of a file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        """Reads what is left of the stretch into a buffer; gives the number of bytes."""
        room = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any buffer, as io has it
        room = room[: max(0, self._length - self._at)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(room) or 0
        self._at += count
        return count

    def close(self) -> None:
        """Closes the archive too."""
        with suppress(AttributeError):  # it could not be opened
            self._file.close()
        super().close()
