"""Starts Python processes that import modules only from where this process does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = str(Path(__file__).parents[1])  # the folder of this package


def start_python(code: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a Python process with this process's import path.

    With `-c` or `-m`, Python searches the current folder first: a `random.py` beside the photos
    would run in place of the standard module. `-P` excludes the current folder while Python starts;
    then the process takes over this one's `sys.path`.

    Args:
        code: Python code to run.
        options: options of `subprocess.Popen`.
    """
    folders = [entry for entry in sys.path if isinstance(entry, str) and entry]  # "" is current
    if _PACKAGES not in folders:
        folders.append(_PACKAGES)
    begin = f"import sys; sys.path[:] = {folders!r}"
    return subprocess.Popen([sys.executable, "-P", "-c", f"{begin}; {code}"], **options)


def keep_current_folder_out() -> None:
    """Excludes the current folder from imports in Python processes that libraries start."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
