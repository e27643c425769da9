"""Receives the images of a request as bytes in memory, within the limits.

Only bytes are accepted: no path or URL from a client is ever opened, and nothing is written.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from qfm_iqm.errors import QFMError
from qfm_iqm.serve.limits import Limits

RETRY_AFTER = 1  # seconds
_LINGERING = 1  # second


class RequestError(QFMError):
    """A request or one of its images is refused with an HTTP code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Upload:
    """One image of a request.

    Attributes:
        name: the client's name of the image, only for display; never opened as a path.
        content: bytes of the image.
    """

    name: str
    content: bytes


class Pending:
    """Counts what is being served: bytes or images.

    Args:
        most: limit of the count; a single request may exceed it.

    Attributes:
        count: what is being served now.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    @contextmanager
    def counted(self, count: int) -> Iterator[None]:
        """Counts a request while it is served.

        Raises:
            RequestError: 429, too much is already being served.
        """
        # An idle service accepts any request within the limits.
        if self.count and self.count + count > self._most:
            raise RequestError(429, "The service is busy: try again in a moment.")
        self.count += count
        try:
            yield
        finally:
            self.count -= count


class Admission:
    """Admits requests while their bytes and images fit.

    Must be used from only one event loop.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes = Pending(limits.pending_bytes)
        self.images = Pending(limits.pending_images)

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncGenerator[list[Upload]]:
        """The images of a request, which is counted while it is served.

        Raises:
            RequestError: the request is refused; see `declared_size` and `receive`.
        """
        with self.bytes.counted(declared_size(request, self.limits)):
            uploads = await receive(request, self.limits)
            with self.images.counted(len(uploads)):
                yield uploads


def declared_size(request: Request, limits: Limits) -> int:
    """The declared size of a request in bytes; the largest allowed size if it is not declared.

    Raises:
        RequestError: 413, too large; 400, not a number.
    """
    declared = request.headers.get("content-length")
    if declared is None:
        return limits.request_bytes
    if not declared.isdecimal():
        raise RequestError(400, "The Content-Length is not a number.")
    if int(declared) > limits.request_bytes:
        raise _too_large(limits.request_bytes)
    return int(declared)


async def receive(request: Request, limits: Limits) -> list[Upload]:
    """Reads a request's images: multipart files, or the body as one image.

    Raises:
        RequestError: 400, no images or invalid multipart; 408, too slow; 413, too large; 422, a
            form field that is no file; 499, the client has disconnected (only for the metrics).
    """
    try:
        async with asyncio.timeout(limits.receive_seconds):
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "multipart/form-data":
                return await _files(request, limits)
            content = b"".join([piece async for piece in _bounded(request, limits.file_bytes)])
    except TimeoutError:
        raise RequestError(408, "The request did not arrive in time.") from None
    except ClientDisconnect:
        raise RequestError(499, "The client disconnected before its request had arrived.") from None
    if not content:
        raise RequestError(400, "There is no image in the request.")
    return [Upload(request.headers.get("x-file-name", "image"), content)]


async def discard(request: Request) -> None:
    """Reads and drops the rest of a refused request, for a moment.

    Closing a connection while its client is sending may lose the response.
    """
    # RuntimeError: everything was already read.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_LINGERING):
            async for _ in request.stream():
                pass


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # never write parts to disk; the stream's size is limited
    ended = False

    def on_end(self) -> None:
        """Records the final boundary, without which the last part would be dropped."""
        self.ended = True


async def _files(request: Request, limits: Limits) -> list[Upload]:
    parser = _InMemory(
        request.headers,
        _bounded(request, limits.request_bytes),
        max_files=limits.files,
        max_fields=16,
        max_part_size=4096,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        code = 413 if error.message.startswith("Too many files") else 400
        raise RequestError(code, f"The request is invalid: {error.message}") from None
    except KeyError:
        raise RequestError(400, "The multipart request has no boundary.") from None
    try:
        if not parser.ended:
            raise RequestError(400, "The multipart body ends before its last boundary.")
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise RequestError(400, "There is no image in the request.")
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise RequestError(
                    422, f"The form field '{name}' has no effect: give parameters in the URL."
                )
        return [Upload(file.filename or "image", await file.read()) for file in files]
    finally:
        await form.close()


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes]:
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > most:
            raise _too_large(most)
        yield piece


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"The request exceeds the limit of {most / 1e6:g} MB.")
