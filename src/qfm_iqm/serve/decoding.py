"""The pool of decoding workers: each image within its time and memory, whatever it does.

A worker that takes too long is killed, one that dies is replaced; the image that did it is
refused, and no other image is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import QFMError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.processes import start_python
from qfm_iqm.serve.frames import LENGTHS_SIZE, lengths, packed
from qfm_iqm.serve.limits import Limits

START_SECONDS = 180.0
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # Linux; fcntl names it from Python 3.10 on there alone


class RefusedError(QFMError):
    """An image that is not scored, with the HTTP code that says why.

    Attributes:
        code: 413 too large or too costly, 415 no image that can be read.
    """

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Decoded:
    """An image at the model's working size.

    Attributes:
        pixels: RGB (3, h, w), uint8 or float32 in [0, 1], continued to the size of a crop.
        width: of the image itself in pixels, upright.
        height: of the image itself in pixels, upright.
    """

    pixels: npt.NDArray[Any]
    width: int
    height: int


class Decoder:
    """Worker processes that decode images; `decode` may be called from many threads.

    Args:
        preprocessing: of the model.
        limits: number of workers, and what each image may cost.

    Raises:
        QFMError: a worker does not start.
    """

    def __init__(self, preprocessing: Preprocessing, limits: Limits) -> None:
        self.limits = limits
        self.restarts = 0
        self._settings = {
            "preprocessing": preprocessing.model_dump(),
            "pixels": limits.pixels,
            "decode_bytes": limits.decode_bytes,
        }
        self._closed = False
        self._idle: queue.Queue[_Worker] = queue.Queue()
        starting = [_Worker(self._settings) for _ in range(limits.workers)]
        for worker in starting:  # they load side by side
            worker.wait_ready()
            self._idle.put(worker)

    def decode(self, content: bytes) -> Decoded:
        """Decodes one image; blocks while all workers are busy.

        Raises:
            RefusedError: the image cannot be read, or not within the limits.
        """
        worker = self._idle.get()
        try:
            header, body = worker.ask(content, self.limits.decode_seconds)
        except _DeadWorkerError as error:
            worker.kill()
            worker = self._replacement()
            raise RefusedError(413, f"cannot read the bytes: {error}") from None
        finally:
            self._idle.put(worker)
        if "error" in header:
            raise RefusedError(int(header["code"]), str(header["error"]))
        pixels = np.frombuffer(body, header["dtype"]).reshape(header["shape"])
        return Decoded(pixels, int(header["width"]), int(header["height"]))

    def close(self) -> None:
        """Ends the workers, each when its image is done."""
        self._closed = True
        for _ in range(self.limits.workers):
            self._idle.get().kill()

    def _replacement(self) -> _Worker:
        self.restarts += 1
        worker = _Worker(self._settings)
        with suppress(QFMError):  # one that does not start is found dead by its next image
            worker.wait_ready()
        return worker


class _DeadWorkerError(Exception):
    """A worker that has died or was given up."""


class _Worker:
    """One process, and its pipes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._process = start_python(
            "from qfm_iqm.serve.worker import main; main()",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the service, which then ends its workers
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._to, self._from):
            os.set_blocking(pipe, False)
            with suppress(OSError):
                fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._unsent: list[bytes | memoryview] = [packed(settings, 0)]

    def wait_ready(self) -> None:
        """Waits until it has loaded.

        Raises:
            QFMError: it did not start.
        """
        try:
            self._exchange(time.monotonic() + START_SECONDS)
        except _DeadWorkerError as error:
            self.kill()
            raise QFMError(f"A decoding worker did not start: {error}.") from None

    def ask(self, content: bytes, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Sends an image and gets its answer.

        Raises:
            _DeadWorkerError: it has died, or there was no answer in time.
        """
        self._unsent = [packed({}, len(content)), content]
        return self._exchange(time.monotonic() + seconds)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _exchange(self, deadline: float) -> tuple[dict[str, Any], bytearray]:
        """Sends what is unsent and reads one frame, whichever pipe is ready."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            start = bytearray(LENGTHS_SIZE)
            self._transfer(ready, start, deadline)
            header_bytes, body_bytes = lengths(start)
            header = bytearray(header_bytes)
            self._transfer(ready, header, deadline)
            body = bytearray(body_bytes)
            self._transfer(ready, body, deadline)
        return json.loads(header), body

    def _transfer(
        self, ready: selectors.DefaultSelector, buffer: bytearray, deadline: float
    ) -> None:
        """Fills a buffer from the worker, and sends to it meanwhile."""
        left = memoryview(buffer)
        while left or self._unsent:
            watched = self._to in ready.get_map()
            if self._unsent and not watched:
                ready.register(self._to, selectors.EVENT_WRITE)
            elif not self._unsent and watched:
                ready.unregister(self._to)
            events = ready.select(max(0.0, deadline - time.monotonic()))
            if not events:
                raise _DeadWorkerError("decoding it takes more time than is allowed")
            try:
                for key, _ in events:
                    if key.fd == self._to:
                        self._send()
                    else:
                        left = left[self._receive(left) :]
            except (BrokenPipeError, EOFError):
                raise _DeadWorkerError("decoding it broke off or took too much memory") from None

    def _send(self) -> None:
        piece = memoryview(self._unsent[0])
        rest = piece[os.write(self._to, piece[:_PIPE_BYTES]) :]
        if rest:
            self._unsent[0] = rest
        else:
            del self._unsent[0]

    def _receive(self, left: memoryview) -> int:
        count = os.readv(self._from, [left])
        if count == 0:
            raise EOFError
        return count
