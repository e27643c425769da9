"""Processes that this package starts: they import code from where it does, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = str(Path(__file__).parents[1])  # the folder that this package was imported from


def start_python(code: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts a Python process that imports modules from where this one does.

    Python looks for modules in the current folder first when it is given code by `-c` or `-m`: a
    `random.py` that lies beside the photos would run in place of Python's own. `-P` keeps the
    current folder out while Python starts; afterwards the process takes this one's list of folders.

    Args:
        code: what the process runs.
        options: of `subprocess.Popen`.
    """
    folders = [entry for entry in sys.path if isinstance(entry, str) and entry]  # "" is the current
    if _PACKAGES not in folders:
        folders.append(_PACKAGES)
    begin = f"import sys; sys.path[:] = {folders!r}"
    return subprocess.Popen([sys.executable, "-P", "-c", f"{begin}; {code}"], **options)


def keep_current_folder_out() -> None:
    """Keeps the current folder out of the imports of whatever Python processes libraries start."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
