"""How much memory images on their way may take: who may decode now, who waits, who is refused.

Every image reserves a small fixed share from the moment it is handed to a reader. An image that
needs more asks for it, and is admitted when there is room and no earlier image waits.

An image may have been decoded before one ahead of it has asked, and its pixels stay until that one
is done. So that nothing waits for ever, the first image on its way is admitted when no other is
being decoded, whatever the pixels behind it take.
"""

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import Literal

SHARE = 16 << 20  # bytes that an image may take without asking: 512 x 512 pixels and some more
READER = 80 << 20  # bytes that a reading process takes by itself, or reading threads together
CGROUP = Path("/sys/fs/cgroup")
LEAST = 256 << 20  # for images on their way, whatever the program itself takes

Answer = Literal["go", "wait", "refuse"]


class MemoryBudget:
    """Accounts of the images on their way, by their number in the order they are read in.

    Args:
        total: bytes for all images on their way.
        ahead: how many may be on their way at once.
    """

    def __init__(self, total: int, ahead: int) -> None:
        self.total = total
        self.share = min(SHARE, total // (4 * ahead))
        self.largest = total - (ahead - 1) * self.share
        self._held: dict[int, int] = {}
        self._asking: dict[int, int] = {}
        self._decoding: set[int] = set()  # more than their share

    def enter(self, number: int) -> None:
        """An image is handed to a reader."""
        self._held[number] = self.share

    def ask(self, number: int, needed: int) -> Answer:
        """An image says, by its header, what decoding it takes."""
        if needed <= self.share:
            return "go"
        if needed > self.largest:
            return "refuse"
        self._asking[number] = needed
        return "wait"

    def admitted(self) -> list[int]:
        """The images that were waiting and may go on now."""
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
        """Whether an image was admitted to more than its share."""
        return number in self._decoding

    def settle(self, number: int, held: int) -> None:
        """Reading is done: what is left of it is its pixels."""
        self._asking.pop(number, None)
        self._decoding.discard(number)
        self._held[number] = max(self.share, held)

    def keep(self, number: int) -> None:
        """A video has given its first frame: it holds on to its memory until all are used.

        Nothing before it waits for that.
        """
        self._decoding.discard(number)

    def leave(self, number: int) -> None:
        """The pixels have gone through the network."""
        self._held.pop(number, None)
        self._asking.pop(number, None)

    def refusal(self, needed: int) -> str:
        """Why an image is refused that needs more than there ever is."""
        return (
            f"decoding it takes about {needed / 1e9:.2f} GB, and the memory set for images is "
            f"{self.largest / 1e9:.2f} GB; reduce it or raise the limit"
        )


def readers_within(max_memory: int, wanted: int) -> int:
    """How many of the wanted reading processes leave half of the memory to images; at least one."""
    return max(1, min(wanted, (max_memory // 2 - resident()) // READER))


def images_share(max_memory: int | None, processes: int) -> int:
    """Bytes that images on their way may take, when the model is loaded.

    Args:
        max_memory: bytes for the whole program; None takes half of what the machine has free.
        processes: that will read; 0 if threads of this process do.
    """
    if max_memory is None:
        return max(LEAST, available() // 2)
    return max(LEAST, max_memory - resident() - max(1, processes) * READER)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def resident() -> int:
    """Bytes of memory that this process has and the system cannot take back.

    The program's own code, which lies in files, does not count: the system may drop it.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - no file really
            lines = dict(line.split(":", 1) for line in file)
        return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, KeyError):  # not Linux: the most it ever had, in bytes or kilobytes
        import resource  # here: not every system has it, and scoring does without

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if os.uname().sysname == "Darwin" else most * 1024


def available() -> int:
    """Bytes of memory that the machine can still give, or the container that this runs in."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            lines = dict(line.split(":", 1) for line in file)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(min(free, container_room(CGROUP)))


def container_room(folder: Path) -> float:
    """Bytes that a container (cgroup, version 2) leaves; infinite without a limit."""
    try:
        limit = int((folder / "memory.max").read_text())  # "max" without a limit
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return math.inf
    # What files left in memory is given back when it is needed.
    return max(0, limit - used + int(counts.get("inactive_file", 0)))


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
