"""One decoding process: the program that it runs, and the handle that its parent holds.

Jobs and the service both decode in it (`image.decode_pool`). Hostile bytes meet the decoders here,
in a process whose death costs one image.

Design choices:
* Nothing that it says is unpickled (`image.wire`). A process that a hostile image has taken over
  can say nothing but numbers and text, and these are checked.
* Pixels lie in a file in memory, and wait there until the parent has time. A process that may write
  no file sends them as bytes.
* It is a program of its own, not a fork: a fork of a process whose threads have computed may wait
  for ever for what these threads held.
"""

import mmap
import os
import pickle
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from math import prod
from multiprocessing import connection
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import ImageTooLargeError
from qfm_iqm.image.load import Reading, ReadingPolicy, readings
from qfm_iqm.image.wire import (
    Frame,
    Header,
    file_in_memory,
    receive_frame,
    send_frame,
    wait_until,
)
from qfm_iqm.processes import start_python

START_SECONDS = 300.0  # for all its imports, on a busy machine with slow disks
FRAMES_AHEAD = 2  # of a video, decoded and not used
_SENDING_SECONDS = 10.0  # for the rest of an answer that has begun
_DTYPES = ("uint8", "float32")


class WorkerDeathError(Exception):
    """A decoding process has ended, or must be ended; the text says how.

    Attributes:
        late: whether it gave no answer in time.
    """

    def __init__(self, how: str, *, late: bool = False) -> None:
        super().__init__(how)
        self.late = late


class Worker:
    """The handle of a decoding process.

    Args:
        policies: ways to read, of which `give` names one.
        seconds: that one image may take, without the time that it waits for memory.
        share: bytes that an image takes without asking; None if none has to ask.
        decode_bytes: of memory that the process may take on, if that is bounded. It may then
            neither write files nor print.

    Attributes:
        socket: to wait at.
        tasks: number and path of what it was given and has not answered, in order.
        ready: whether it has started.
        deadline: when it must have said something, by the monotonic clock; None for any time.
        unused: frames of a video that it has sent and nobody has used yet.
    """

    def __init__(
        self,
        policies: Sequence[ReadingPolicy],
        seconds: float,
        *,
        share: int | None = None,
        decode_bytes: int | None = None,
    ) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self._process = start_python(
                f"from qfm_iqm.image.decode_worker import main; main({theirs.fileno()})",
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                process_group=0,  # Ctrl-C is for this process, which then ends the others
            )
        self.tasks: deque[tuple[int, str]] = deque()
        self.ready = False
        self.unused = 0
        self.deadline: float | None = time.monotonic() + START_SECONDS
        self._seconds = seconds
        self._most = 1 << 40 if decode_bytes is None else decode_bytes
        self._send({"share": share, "decode_bytes": decode_bytes}, pickle.dumps(tuple(policies)))

    def give(
        self, number: int, path: str, content: bytes | None = None, *, policy: int = 0
    ) -> None:
        """Hands it an image: a file, or its content if that is here already.

        Args:
            number: of the image.
            path: of the file.
            content: of it.
            policy: which of the ways to read.
        """
        self.tasks.append((number, path))
        if self.ready and len(self.tasks) == 1:
            self._begin()
        request = {"number": number, "path": path, "given": content is not None, "policy": policy}
        self._send(request, content or b"")

    def admit(self, refusal: str = "") -> None:
        """Lets it decode the image that it asked about, or says why not."""
        self._begin()
        self._send({"refusal": refusal})

    def go_on(self) -> None:
        """Lets it decode one more frame of its video: one has been used."""
        self.unused -= 1
        if self.deadline is None:
            self._begin()
        self._send({"used": self.tasks[0][0]})

    def hear(self) -> tuple[int, Reading | int] | None:
        """Waits for what it says next.

        Returns:
            The number of an image, and its reading or the bytes that decoding it takes; None: it
            has started.

        Raises:
            WorkerDeathError: it says nothing in time, nothing that makes sense, or nothing any
                more. It must be closed then.
        """
        deadline = self.deadline
        if deadline is not None and connection.wait([self.socket], 0):
            # What was said in time counts, however late it is heard.
            deadline = max(deadline, time.monotonic() + _SENDING_SECONDS)
        try:
            header, body = receive_frame(self.socket, most=self._most, deadline=deadline)
            return self._understood(header, body)
        except TimeoutError:
            raise WorkerDeathError("it gave no answer in time", late=True) from None
        except (EOFError, ConnectionError):
            raise WorkerDeathError(self._ending()) from None
        except (ValueError, TypeError, LookupError, OSError, ArithmeticError, MemoryError):
            raise WorkerDeathError("its answer makes no sense") from None

    def close(self) -> None:
        """Ends it at once."""
        self.socket.close()
        self._process.kill()
        self._process.wait()

    def _begin(self) -> None:
        self.deadline = time.monotonic() + self._seconds

    def _send(self, header: Header, body: bytes = b"") -> None:
        with suppress(TimeoutError, ConnectionError):  # `hear` will tell
            wait_until(self.socket, self.deadline)
            send_frame(self.socket, header, body)

    def _understood(
        self, header: Header, body: bytearray | mmap.mmap
    ) -> tuple[int, Reading | int] | None:
        said = None
        if "ready" in header:
            self.ready = True
        elif "needed" in header:
            self.deadline = None
            return self.tasks[0][0], int(header["needed"])
        else:
            number, path = self.tasks[0]
            reading = _reading(path, header, body)
            said = number, reading
            if reading.time is not None:
                self.unused += 1
                if self.unused == FRAMES_AHEAD:
                    self.deadline = None
                else:
                    self._begin()
                return said
            self.tasks.popleft()
            self.unused = 0
        self.deadline = None
        if self.tasks:
            self._begin()
        return said

    def _ending(self) -> str:
        """How it ended."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:  # it has closed its socket, and goes on
            return "it does not answer any more"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _reading(path: str, header: Header, body: bytearray | mmap.mmap) -> Reading:
    """What a process says of an image, checked; any exception if it makes no sense."""
    statistics, severities = header["statistics"], header["severities"]
    return Reading(
        path,
        None if header["shape"] is None else _pixels(body, header),
        width=None if header["width"] is None else int(header["width"]),
        height=None if header["height"] is None else int(header["height"]),
        sha256=str(header["sha256"]),
        error=str(header["error"]),
        too_large=bool(header["too_large"]),
        seconds=float(header["seconds"]),
        statistics=None if statistics is None else np.array(statistics, np.float64),
        time=None if header["time"] is None else float(header["time"]),
        taken=str(header["taken"]),
        severities=None if severities is None else _severities(severities),
    )


def _severities(said: Any) -> Doubles:
    severities = np.array(said, np.float64)
    if severities.shape != (6,) or not np.isfinite(severities).all():
        raise ValueError("no severities")
    return severities


def _pixels(data: bytearray | mmap.mmap, header: Header) -> npt.NDArray[Any]:
    """Pixels (3, H, W) of data that hold as many as the header says."""
    dtype, shape = header["dtype"], tuple(map(int, header["shape"]))
    colors = 2 if header["colors_last"] else 0
    if dtype not in _DTYPES or len(shape) != 3 or min(shape) < 1 or shape[colors] != 3:
        raise ValueError("no pixels")
    if prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ValueError("another number of pixels")
    pixels: npt.NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    return np.moveaxis(pixels, colors, 0)


# ---- the process ----


def main(handle: int) -> None:
    """Decodes what its parent asks for, until that ends."""
    parent = socket.socket(fileno=handle)
    waiting: deque[Frame] = deque()
    with suppress(EOFError, ConnectionError):
        settings, body = receive_frame(parent)
        policies: tuple[ReadingPolicy, ...] = pickle.loads(body)  # the parent's, not a worker's
        bounded = settings["decode_bytes"] is not None
        if bounded:
            _limit(settings["decode_bytes"])
        send_frame(parent, {"ready": True})
        if bounded:  # libraries must not fill a log with what they find in damaged files
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        share = settings["share"]
        admit = None if share is None else partial(_ask, parent, waiting, share)
        while True:
            request, body = waiting.popleft() if waiting else receive_frame(parent)
            if "used" in request:  # the last frames of a video that is done
                continue
            content = bytes(body) if request["given"] else None
            policy = policies[request["policy"]]
            unused = 0
            for reading in readings(request["path"], policy, admit, share or 0, content=content):
                _answer(parent, reading, in_file=not bounded and sys.platform == "linux")
                if reading.time is not None:
                    unused += 1
                    if unused == FRAMES_AHEAD:
                        _wait_for_use(parent, waiting, request["number"])
                        unused -= 1
            del body, content


def _ask(parent: socket.socket, waiting: deque[Frame], share: int, needed: int) -> None:
    """Waits until there is memory for an image; what else is said meanwhile is kept."""
    if needed <= share:
        return
    send_frame(parent, {"needed": needed})
    while "refusal" not in (frame := receive_frame(parent))[0]:
        waiting.append(frame)
    if frame[0]["refusal"]:
        raise ImageTooLargeError(frame[0]["refusal"])


def _wait_for_use(parent: socket.socket, waiting: deque[Frame], number: int) -> None:
    """Waits until a frame of a video has been used; what else is said meanwhile is kept."""
    while (frame := receive_frame(parent))[0].get("used") != number:
        waiting.append(frame)


def _answer(parent: socket.socket, reading: Reading, *, in_file: bool) -> None:
    header = vars(reading) | {"shape": None}
    del header["path"]
    pixels = header.pop("pixels")
    for name in ("statistics", "severities"):
        if header[name] is not None:
            header[name] = header[name].tolist()
    if pixels is None:
        send_frame(parent, header)
        return
    # Rows of 8-bit images lie with their colors beside each other: that order is kept.
    colors_last = pixels.transpose(1, 2, 0).flags.c_contiguous
    flat = pixels.transpose(1, 2, 0) if colors_last else np.ascontiguousarray(pixels)
    header |= {"shape": flat.shape, "dtype": flat.dtype.name, "colors_last": colors_last}
    data = flat.reshape(-1).data.cast("B")
    if not in_file:
        send_frame(parent, header, data)
        return
    handle = file_in_memory(data)
    send_frame(parent, header, handle=handle)
    os.close(handle)


def _limit(decode_bytes: int) -> None:
    """Bounds what this process may take on from here, where the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no Path needed
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + decode_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
