"""The allocator, told what to keep of what is freed.

A network's pass asks for the same large blocks again and again. glibc gives such blocks back to the
system each time and gets them anew, page by page: on a CPU that is a noticeable part of the whole.
A large image's memory, on the other hand, is to be there for the next one, whichever thread reads
it; and glibc keeps for each thread what that one has freed.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEPT = 512 << 20


def keep_freed_memory() -> None:
    """Lets freed blocks of up to 512 MB stay with this process; does nothing but on glibc.

    What the user has set by glibc's own variables stays as it is.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        if not mallopt(_MMAP_THRESHOLD, _KEPT):
            mallopt(_MMAP_THRESHOLD, _KEPT >> 4)  # older ones take no more
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, 64 << 20)


def give_freed_memory_back() -> None:
    """Gives what is freed back to the system, for any thread to take; only on glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
