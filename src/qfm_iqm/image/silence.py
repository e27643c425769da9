"""Pillow decodes in silence: what it says about damage is told by our errors alone.

`warnings.catch_warnings` swaps the whole filter list and is undone in the wrong order by
overlapping threads. Here the first thread in adds one entry that concerns Pillow's modules
alone, and the last one out takes the same entry away. Lines that libtiff itself writes about a
damaged TIFF stay: only a redirection of the whole process' stderr could stop them.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from contextlib import suppress
from typing import cast

_LOGGERS = ("PIL", "tifffile")


class _QuietPillow:
    """While any thread is inside, what Pillow and tifffile say is not printed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._entry = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif|tifffile)\b"), 0)
        self._handler = logging.NullHandler()  # else unhandled messages go to stderr
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Forgets the threads that were inside when this process was forked: none of them is here.

        One of them may have held the lock.
        """
        self._lock = threading.Lock()
        if self._inside:
            self._inside = 1
            self.__exit__()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                cast(list[object], warnings.filters).insert(0, self._entry)
                for name in _LOGGERS:
                    logging.getLogger(name).addHandler(self._handler)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with suppress(ValueError):  # someone else has reset the list meanwhile
                    cast(list[object], warnings.filters).remove(self._entry)
                for name in _LOGGERS:
                    logging.getLogger(name).removeHandler(self._handler)


quiet_pillow = _QuietPillow()
