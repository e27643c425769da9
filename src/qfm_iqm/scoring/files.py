"""Which files are meant by the paths on a command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from qfm_iqm.image.formats import SUFFIXES


@dataclass(frozen=True)
class FoundFiles:
    """The files under some paths.

    Attributes:
        files: as found under the argument given, each once; named files keep their place, those
            of a folder are sorted.
        skipped: how many files in folders were passed over for a name that is no image's.
        unreadable: folders that could not be listed.
    """

    files: tuple[str, ...]
    skipped: int
    unreadable: tuple[str, ...]


def find_images(paths: Iterable[str], *, all_files: bool = False) -> FoundFiles:
    """Finds image files: folders recursively by name ending, files as they are named.

    What is hidden (a name that begins with a dot) is passed over, and so are links to folders,
    which may lead in a circle.

    Args:
        paths: files and folders. A file named here is taken whatever it is called, and so is a
            path where there is nothing: reading it gives the row that says so.
        all_files: take every file in folders, whatever it is called, hidden ones too.
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
                suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - names may hold any bytes
                if all_files or (suffix in SUFFIXES and not name.startswith(".")):
                    found[os.path.join(folder, name)] = None  # noqa: PTH118 - keeps "./"
                else:
                    skipped += 1
    return FoundFiles(tuple(found), skipped, tuple(unreadable))
