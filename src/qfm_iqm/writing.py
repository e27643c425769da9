"""Files that are complete or not there: written beside their place, and moved when on the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qfm_iqm.errors import TableError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives an empty file beside `path` to write to, and moves it there at the end.

    An earlier file of that name is there, whole, until then; it stays if anything is raised.

    Raises:
        TableError: the place cannot be written to.
    """
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False
        ) as file:
            partial = Path(file.name)
        try:
            yield partial
            partial.chmod(0o644)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise TableError(f"'{path}' cannot be written: {error.strerror}.") from error


def write_whole(text: str, path: Path) -> None:
    """Writes a text file in UTF-8, its line ends as they are, in one step.

    Raises:
        TableError: the place cannot be written to.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
