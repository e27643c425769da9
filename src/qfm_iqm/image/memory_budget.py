"""Memory budget for images in flight: which may be decoded now, which wait, which are refused.

Every image reserves a small fixed share when it is given to a reader. An image that needs more asks
for it, and is admitted when there is room and no earlier image waits.

An image may be decoded before an earlier one has asked, and its pixels are kept until the earlier
one is done. To avoid a deadlock, the first image in flight is admitted when no other is being
decoded, whatever the pixels of later images take.
"""

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import Literal

SHARE = 16 << 20  # bytes per image without asking: enough for slightly more than 512 x 512 pixels
READER = 80 << 20  # bytes of a reading process, or of all reading threads together
CGROUP = Path("/sys/fs/cgroup")
LEAST = 256 << 20  # least bytes for images in flight, whatever the program itself takes

Answer = Literal["go", "wait", "refuse"]


class MemoryBudget:
    """Keeps account of the images in flight, by their number in reading order.

    Args:
        total: bytes for all images in flight.
        ahead: largest number of images in flight.
    """

    def __init__(self, total: int, ahead: int) -> None:
        self.total = total
        self.share = min(SHARE, total // (4 * ahead))
        self.largest = total - (ahead - 1) * self.share
        self._held: dict[int, int] = {}
        self._asking: dict[int, int] = {}
        self._decoding: set[int] = set()  # images that decode with more than their share

    def enter(self, number: int) -> None:
        """Reserves a share for an image that is given to a reader."""
        self._held[number] = self.share

    def ask(self, number: int, needed: int) -> Answer:
        """Asks for the memory to decode an image, as estimated from its header."""
        if needed <= self.share:
            return "go"
        if needed > self.largest:
            return "refuse"
        self._asking[number] = needed
        return "wait"

    def admitted(self) -> list[int]:
        """Admits waiting images for which there is now room, and returns them."""
        free = []
        for number in sorted(self._asking):
            needed = self._asking[number]
            fits = sum(self._held.values()) - self._held[number] + needed <= self.total
            if not fits and (self._decoding or number != min(self._held)):
                break
            self._held[number] = needed
            self._decoding.add(number)
            del self._asking[number]
            free.append(number)
        return free

    def is_large(self, number: int) -> bool:
        """Whether an image was admitted with more than its share."""
        return number in self._decoding

    def settle(self, number: int, held: int) -> None:
        """Records that an image was read and now holds only its pixels."""
        self._asking.pop(number, None)
        self._decoding.discard(number)
        self._held[number] = max(self.share, held)

    def keep(self, number: int) -> None:
        """Records that a video gave its first frame; it keeps its memory until all are used.

        No earlier image waits for that.
        """
        self._decoding.discard(number)

    def leave(self, number: int) -> None:
        """Frees the memory of an image whose pixels were used."""
        self._held.pop(number, None)
        self._asking.pop(number, None)

    def refusal(self, needed: int) -> str:
        """The reason for refusing an image that needs more than the budget."""
        return (
            f"decoding it takes about {needed / 1e9:.2f} GB, and the memory set for images is "
            f"{self.largest / 1e9:.2f} GB; reduce it or raise the limit"
        )


def readers_within(max_memory: int, wanted: int) -> int:
    """The number of reading processes that leaves half of the memory for images; at least one."""
    return max(1, min(wanted, (max_memory // 2 - resident()) // READER))


def images_share(max_memory: int | None, processes: int) -> int:
    """Bytes for images in flight, once the model is loaded.

    Args:
        max_memory: bytes for the whole program; None takes half of the machine's free memory.
        processes: number of reading processes; 0 for threads of this process.
    """
    if max_memory is None:
        return max(LEAST, available() // 2)
    return max(LEAST, max_memory - resident() - max(1, processes) * READER)


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def resident() -> int:
    """Bytes of this process's memory that the system cannot reclaim.

    File-backed memory such as the program's code does not count, because the system may drop it.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - not a real file
            lines = dict(line.split(":", 1) for line in file)
        return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, KeyError):  # not Linux: use the peak, in bytes or kilobytes
        import resource  # imported here: not every system has it, and scoring works without

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if os.uname().sysname == "Darwin" else most * 1024


def available() -> int:
    """Bytes of free memory of the machine or of the container that this runs in."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            lines = dict(line.split(":", 1) for line in file)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(min(free, container_room(CGROUP)))


def container_room(folder: Path) -> float:
    """Bytes of free memory in a container (cgroup, version 2); infinite without a limit."""
    try:
        limit = int((folder / "memory.max").read_text())  # "max" without a limit
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    # The page cache of inactive files is reclaimed when needed.
    return max(0, limit - used + int(counts.get("inactive_file", 0)))


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEPT = 512 << 20


def keep_freed_memory() -> None:
    """Keeps freed blocks of up to 512 MB in this process; does nothing without glibc.

    Settings by glibc's environment variables are not overridden.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        if not mallopt(_MMAP_THRESHOLD, _KEPT):
            mallopt(_MMAP_THRESHOLD, _KEPT >> 4)  # the maximum of older versions
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, 64 << 20)


def give_freed_memory_back() -> None:
    """Returns freed memory to the system, so that any thread can use it; only with glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
