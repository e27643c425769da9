"""Images in tar archives, such as WebDataset shards.

Nothing is extracted: members are read directly from the archive. Archives must be local and
uncompressed, so that a member can be read without reading everything before it.
"""

import io
import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

_BLOCK = 512  # bytes; a zero block ends an archive


@dataclass(frozen=True)
class TarArchive:
    """The index of a tar archive; see `image.archive.Archive`.

    Attributes:
        path: path of the archive.
        members: offset and length of each regular file, by name. The last file of a name counts,
            as in extraction; truncated files are left out.
        damage: why members may be missing; empty if the archive is intact.
    """

    path: str
    members: Mapping[str, tuple[int, int]]
    damage: str

    kind = "a tar archive"
    only_images = False
    is_table = False

    def open(self, name: str) -> BinaryIO:
        """Opens a member as a section of the archive."""
        # A buffered reader provides the whole interface that callers use.
        return cast(BinaryIO, io.BufferedReader(_Piece(self.path, *self.members[name])))


def read_tar(path: str) -> TarArchive:
    """Reads the index of an archive.

    Raises:
        OSError: it cannot be opened.
    """
    size = os.stat(path).st_size  # noqa: PTH116 - a str keeps names that Path would rewrite
    members: dict[str, tuple[int, int]] = {}
    headers = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                headers += 1
                plain = member.isreg() and not member.issparse()
                if plain and member.offset_data + member.size <= size:
                    members[member.name] = (member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            end = tar.offset
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            file.seek(end)
            whole = file.read(_BLOCK) == bytes(_BLOCK)
    except OSError:
        raise
    except Exception:  # tarfile raises many kinds of errors on damaged headers
        whole = False
    if whole:
        return TarArchive(path, members, "")
    if headers:
        return TarArchive(
            path, members, f"the archive is truncated or damaged after {len(members)} files"
        )
    return TarArchive(path, members, "it is not a tar archive, or a compressed one")


class _Piece(io.RawIOBase):
    """A section of a file that is read like a separate file."""

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
        """Moves to a position in the section or after it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError("there is nothing before the beginning of a file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: object) -> int:
        """Reads the rest of the section into a buffer; returns the number of bytes."""
        room = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # any buffer, as io has it
        room = room[: max(0, self._length - self._at)]
        self._file.seek(self._start + self._at)
        count = self._file.readinto(room) or 0
        self._at += count
        return count

    def close(self) -> None:
        """Closes the archive too."""
        with suppress(AttributeError):  # the file could not be opened
            self._file.close()
        super().close()
