"""One reading process: given paths, it answers with pixels in shared memory.

Only the few words about an image go through the pipe. Its pixels lie in an anonymous file in
memory whose handle is passed along: nothing has a name, so that nothing stays behind whoever is
killed, and no answer is ever too long for the pipe.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import ImageError
from qfm_iqm.image.load import Reading, ReadingPolicy, read
from qfm_iqm.processes import start_python

Task = tuple[int, str]


class WorkerDeathError(Exception):
    """A reading process has ended unasked; the text says how."""


class Worker:
    """The handle of a reading process.

    Args:
        policy: how to read.
        share: bytes of memory that it takes without asking.

    Attributes:
        pipe: to wait at.
        tasks: what it was given and has not answered, in order.
        ready: whether it has started to read.
    """

    def __init__(self, policy: ReadingPolicy, share: int) -> None:
        # A program of its own, not a fork: a fork of a process whose threads have computed may
        # wait for ever for what these threads held.
        ours, theirs = socket.socketpair()
        code = f"from qfm_iqm.image.decode_worker import serve; serve({theirs.fileno()})"
        self._process = start_python(
            code,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C is for this process, which tells the others
        )
        theirs.close()
        self.pipe = Connection(ours.detach())
        self.tasks: deque[Task] = deque()
        self.ready = False
        self._send((policy, share))

    def reads(self, number: int) -> bool:
        """Whether it is reading this file at the moment."""
        return bool(self.tasks) and self.tasks[0][0] == number

    def give(self, number: int, path: str) -> None:
        """Hands it a file."""
        self.tasks.append((number, path))
        self._send((number, path))

    def answer(self, number: int, refusal: str) -> None:
        """Lets the image that it asked for be decoded, or says why not."""
        self._send((number, None, refusal))

    def _send(self, message: object) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `hear` will tell
            self.pipe.send(message)

    def hear(self) -> Reading | int | None:
        """What it says next: a reading, the bytes that decoding takes, or None: it is ready.

        Raises:
            WorkerDeathError: it says nothing any more.
        """
        try:
            message = self.pipe.recv()
            self.ready = True
            if message is None or isinstance(message, int):
                return message
            reading, shape, dtype, inner_first = message
            if shape is None:
                return Reading(**reading)
            handle = reduction.recv_handle(self.pipe)
        except (EOFError, OSError):
            self.pipe.close()
            code = self._process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise WorkerDeathError(how) from None
        return Reading(**reading, pixels=_mapped(handle, shape, dtype, inner_first))

    def close(self) -> None:
        """Ends it."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()


def serve(handle: int) -> None:
    """The life of a reading process: until its pipe is closed."""
    pipe = Connection(handle)
    queue: deque[Task] = deque()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        policy, share = pipe.recv()
        pipe.send(None)
        while True:
            number, path = queue.popleft() if queue else pipe.recv()
            _reply(pipe, read(path, policy, partial(_admitted, pipe, queue, number, share), share))


def _admitted(pipe: Connection, queue: deque[Task], number: int, share: int, needed: int) -> None:
    """Waits until there is memory for an image; what else is said meanwhile is kept."""
    if needed <= share:
        return
    pipe.send(needed)
    while len(message := pipe.recv()) == 2:
        queue.append(message)
    assert message[0] == number
    if message[2]:
        raise ImageError(message[2])


def _reply(pipe: Connection, reading: Reading) -> None:
    pixels, plain = reading.pixels, vars(replace(reading, pixels=None))
    plain.pop("pixels")
    if pixels is None:
        pipe.send((plain, None, None, False))
        return
    # Rows of 8-bit images lie with their colours beside each other: that order is kept.
    inner_first = pixels.transpose(1, 2, 0).flags.c_contiguous
    flat = pixels.transpose(1, 2, 0) if inner_first else np.ascontiguousarray(pixels)
    handle = _anonymous_file(flat.nbytes)
    with mmap.mmap(handle, flat.nbytes) as memory:
        np.copyto(np.frombuffer(memory, flat.dtype).reshape(flat.shape), flat)
    pipe.send((plain, flat.shape, flat.dtype.str, inner_first))
    reduction.send_handle(pipe, handle, os.getppid())
    os.close(handle)


def _anonymous_file(size: int) -> int:
    """A file in memory without a name; one on disk where the system has none in memory."""
    if sys.platform == "linux":
        handle = os.memfd_create("qfm-pixels")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle


def _mapped(handle: int, shape: tuple[int, ...], dtype: str, inner_first: bool) -> npt.NDArray[Any]:
    """The pixels (3, H, W) behind a handle, which is closed."""
    try:
        memory = mmap.mmap(handle, 0)
    finally:
        os.close(handle)
    pixels: npt.NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)
    return pixels.transpose(2, 0, 1) if inner_first else pixels
