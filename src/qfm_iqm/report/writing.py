"""Files that are complete or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from qfm_iqm.errors import TableError


def write_whole(text: str, path: Path) -> None:
    """Writes a text file in one step; an earlier file is replaced when the new one is complete.

    Raises:
        TableError: the place cannot be written to.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            dir=path.parent,
            prefix=f".{path.name}.",
            encoding="utf-8",
            newline="",
            delete=False,
        ) as file:
            partial = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                partial.chmod(0o644)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise TableError(f"'{path}' cannot be written: {error.strerror}.") from error
