"""A decoding process: its program, and the handle in the parent process.

Jobs and the service both use it (`image.decode_pool`). Hostile bytes are decoded here, in a process
whose death costs one image.

Design choices:
* The parent unpickles nothing from it (`image.wire`). A process that a hostile image has taken over
  can send only numbers and text, which are checked.
* Pixels are passed as a file in memory until the parent reads them. A process without permission to
  write files sends them as bytes.
* It is a new program, not a fork: a fork of a process with threads may wait forever for locks that
  these threads held.
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

START_SECONDS = 300.0  # limit for its imports, on a busy machine with slow disks
FRAMES_AHEAD = 2  # decoded frames of a video that are not used yet
_SENDING_SECONDS = 10.0  # limit for the rest of an answer that has begun
_DTYPES = ("uint8", "float32")


class WorkerDeathError(Exception):
    """A decoding process has ended or must be killed; the message says how.

    Attributes:
        late: whether it did not answer in time.
    """

    def __init__(self, how: str, *, late: bool = False) -> None:
        super().__init__(how)
        self.late = late


class Worker:
    """The handle of a decoding process.

    Args:
        policies: reading policies; `give` chooses one.
        seconds: time limit for one image, without its waiting for memory.
        share: bytes that an image may take without asking; None if no image has to ask.
        decode_bytes: memory limit of the process for decoding; None for no limit. A limited process
            may neither write files nor print.

    Attributes:
        socket: connection to the process, to wait for its messages.
        tasks: number and path of each unanswered image, in order.
        ready: whether the process has started.
        deadline: time of the monotonic clock by which it must send a message; None for no limit.
        unused: frames of a video that it has sent but that are not used yet.
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
                process_group=0,  # only the parent gets Ctrl-C, and then ends the others
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
        """Gives it an image: a file, or its content if that was already read.

        Args:
            number: number of the image.
            path: path of the file.
            content: content of the file; None lets the process read it.
            policy: index of the reading policy.
        """
        self.tasks.append((number, path))
        if self.ready and len(self.tasks) == 1:
            self._begin()
        request = {"number": number, "path": path, "given": content is not None, "policy": policy}
        self._send(request, content or b"")

    def admit(self, refusal: str = "") -> None:
        """Allows it to decode the image that it asked about, or refuses with a reason."""
        self._begin()
        self._send({"refusal": refusal})

    def go_on(self) -> None:
        """Allows it to decode one more frame of its video, because one was used."""
        self.unused -= 1
        if self.deadline is None:
            self._begin()
        self._send({"used": self.tasks[0][0]})

    def hear(self) -> tuple[int, Reading | int] | None:
        """Waits for its next message.

        Returns:
            The number of an image with its reading or with the bytes needed to decode it; None if
            the process has started.

        Raises:
            WorkerDeathError: it sent nothing in time, sent something invalid, or has ended. It
                must then be closed.
        """
        deadline = self.deadline
        if deadline is not None and connection.wait([self.socket], 0):
            # A message that was sent in time counts, however late it is read.
            deadline = max(deadline, time.monotonic() + _SENDING_SECONDS)
        try:
            header, body = receive_frame(self.socket, most=self._most, deadline=deadline)
            return self._understood(header, body)
        except TimeoutError:
            raise WorkerDeathError("it did not answer in time", late=True) from None
        except (EOFError, ConnectionError):
            raise WorkerDeathError(self._ending()) from None
        except (ValueError, TypeError, LookupError, OSError, ArithmeticError, MemoryError):
            raise WorkerDeathError("its answer is invalid") from None

    def close(self) -> None:
        """Kills the process."""
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
        except subprocess.TimeoutExpired:  # it has closed its socket but still runs
            return "it no longer answers"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _reading(path: str, header: Header, body: bytearray | mmap.mmap) -> Reading:
    """Parses a process's answer about an image; raises some exception if it is invalid."""
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
    """Pixels (3, H, W) from data whose size must match the header."""
    dtype, shape = header["dtype"], tuple(map(int, header["shape"]))
    colors = 2 if header["colors_last"] else 0
    if dtype not in _DTYPES or len(shape) != 3 or min(shape) < 1 or shape[colors] != 3:
        raise ValueError("no pixels")
    if prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ValueError("a different number of pixels")
    pixels: npt.NDArray[Any] = np.frombuffer(data, dtype).reshape(shape)
    return np.moveaxis(pixels, colors, 0)


# ---- the process ----


def main(handle: int) -> None:
    """Decodes the parent's requests until the parent ends."""
    parent = socket.socket(fileno=handle)
    waiting: deque[Frame] = deque()
    with suppress(EOFError, ConnectionError):
        settings, body = receive_frame(parent)
        policies: tuple[ReadingPolicy, ...] = pickle.loads(body)  # sent by the trusted parent
        bounded = settings["decode_bytes"] is not None
        if bounded:
            _limit(settings["decode_bytes"])
        send_frame(parent, {"ready": True})
        if bounded:  # libraries must not fill the log with messages about damaged files
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        share = settings["share"]
        admit = None if share is None else partial(_ask, parent, waiting, share)
        while True:
            request, body = waiting.popleft() if waiting else receive_frame(parent)
            if "used" in request:  # about the last frames of a finished video
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
    """Waits until there is memory for an image; keeps other messages for later."""
    if needed <= share:
        return
    send_frame(parent, {"needed": needed})
    while "refusal" not in (frame := receive_frame(parent))[0]:
        waiting.append(frame)
    if frame[0]["refusal"]:
        raise ImageTooLargeError(frame[0]["refusal"])


def _wait_for_use(parent: socket.socket, waiting: deque[Frame], number: int) -> None:
    """Waits until a frame of a video was used; keeps other messages for later."""
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
    # 8-bit images are interleaved (H, W, 3) in memory; that order is kept.
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
    """Limits this process's further memory and file writes, if the system supports it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no Path needed
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + decode_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
