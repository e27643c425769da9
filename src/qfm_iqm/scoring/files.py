"""Which files are meant by the paths on a command line."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from qfm_iqm.errors import QFMError
from qfm_iqm.image.formats import SUFFIXES


@dataclass(frozen=True)
class FoundFiles:
    """The files under some paths.

    Attributes:
        files: as found under the argument given, each once; named files keep their place, those
            of a folder are sorted.
        skipped: how many files in folders were passed over for a name that is not meant.
        unreadable: folders that could not be listed.
    """

    files: tuple[str, ...]
    skipped: int
    unreadable: tuple[str, ...]


def find_images(
    paths: Iterable[str],
    *,
    all_files: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> FoundFiles:
    """Finds image files: folders recursively by name ending, files as they are named.

    What is hidden (a name that begins with a dot) is passed over, and so are links to folders,
    which may lead in a circle.

    Args:
        paths: files and folders. A file named here is taken whatever it is called, and so is a
            path where there is nothing: reading it gives the row that says so.
        all_files: take every file in folders, whatever it is called, hidden ones too.
        include: shell patterns; of the files in folders, those that match one are taken,
            whatever their endings. A pattern without a slash is held against the name, one with a
            slash against the path from the folder given on.
        exclude: shell patterns, likewise, of the files to leave out.
    """
    found: dict[str, None] = {}
    unreadable: list[str] = []
    skipped = 0
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - the name is kept as it was given
            found[path] = None
            continue
        walk = os.walk(path, onerror=lambda error: unreadable.append(str(error.filename)))
        for folder, folders, names in walk:
            folders[:] = sorted(f for f in folders if all_files or not f.startswith("."))
            for name in sorted(names):
                file = os.path.join(folder, name)  # noqa: PTH118 - keeps "./"
                within = file[len(path) :].lstrip("/")
                wanted = _matches(name, within, include) if include else all_files or is_image(name)
                if wanted and not _matches(name, within, exclude):
                    found[file] = None
                else:
                    skipped += 1
    return FoundFiles(tuple(found), skipped, tuple(unreadable))


def list_url(url: str, *, all_files: bool = False) -> list[str]:
    """The image files at a URL, or under it, sorted.

    Raises:
        QFMError: it cannot be listed.
    """
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        found = system.find(root) if system.isdir(root) else [root]
    except Exception as error:  # each file system has its own kinds of errors
        raise QFMError(f"{url} cannot be listed: {error}") from error
    wanted = [name for name in found if all_files or is_image(name.rsplit("/", 1)[-1])]
    return [system.unstrip_protocol(name) for name in sorted(wanted)]


def read_list(source: IO[bytes], name: str) -> list[str]:
    """Reads a list of files: one a line, or ended by null characters as `find -print0` does.

    Raises:
        QFMError: there is none in it.
    """
    content = source.read()
    lines = content.split(b"\0") if b"\0" in content else content.splitlines()
    paths = [os.fsdecode(line) for line in lines if line]
    if not paths:
        raise QFMError(f"The list {name} names no file.")
    return paths


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - names may hold any bytes
    return suffix in SUFFIXES and not name.startswith(".")


def _matches(name: str, within: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(within if "/" in p else name, p) for p in patterns)
