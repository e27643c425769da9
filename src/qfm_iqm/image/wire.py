"""What goes between a decoding process and its parent: frames of a JSON header and bytes.

In place of the bytes a frame may carry the handle of an anonymous file in memory. Nothing of it has
a name, so that nothing stays behind whoever is killed. It is sealed, so that nobody can shorten it
under its reader.
"""

import json
import mmap
import os
import socket
import struct
import sys
import time
from typing import Any

if sys.platform == "linux":
    import fcntl

Header = dict[str, Any]
Frame = tuple[Header, bytearray | mmap.mmap]

_LENGTHS = struct.Struct("<IQ")  # bytes of header and body
_MOST_HEADER = 1 << 20


def send_frame(
    to: socket.socket, header: Header, body: bytes | memoryview = b"", handle: int | None = None
) -> None:
    """Sends a header and a body, or a header and the handle of a file in memory."""
    text = json.dumps(header).encode()
    start = _LENGTHS.pack(len(text), len(body)) + text
    if handle is None:
        to.sendall(start)
    else:
        socket.send_fds(to, [start], [handle])
    to.sendall(body)


def receive_frame(
    source: socket.socket, *, most: int = 1 << 40, deadline: float | None = None
) -> Frame:
    """Receives a header and a body; what lies in a file in memory is the body.

    Args:
        source: the socket.
        most: bytes of a body.
        deadline: by the monotonic clock; None waits for ever.

    Raises:
        EOFError: there is nothing more.
        TimeoutError: it has not come in time.
        ValueError: it is no such frame.
    """
    wait_until(source, deadline)
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    start, handles, _, _ = socket.recv_fds(source, _LENGTHS.size, 1, flags)
    body: bytearray | mmap.mmap | None = _mapped(handles[0]) if handles else None
    if not start:
        raise EOFError
    start += _exactly(source, _LENGTHS.size - len(start), deadline)
    header_bytes, body_bytes = _LENGTHS.unpack(start)
    if header_bytes > _MOST_HEADER or body_bytes > most:
        raise ValueError("a longer frame than there are")
    header = json.loads(_exactly(source, header_bytes, deadline))
    if not isinstance(header, dict):
        raise ValueError("no header")
    received = _exactly(source, body_bytes, deadline)
    return header, received if body is None else body


def _exactly(source: socket.socket, size: int, deadline: float | None) -> bytearray:
    """So many bytes of a socket."""
    buffer = bytearray(size)
    left = memoryview(buffer)
    while left:
        wait_until(source, deadline)
        count = source.recv_into(left)
        if count == 0:
            raise EOFError
        left = left[count:]
    return buffer


def wait_until(end: socket.socket, deadline: float | None) -> None:
    """Lets whatever is done next at a socket wait until then."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    end.settimeout(left)


def _mapped(handle: int) -> mmap.mmap:
    """The content of a file in memory, whose handle is closed."""
    try:
        if sys.platform == "linux":
            # What is cut short while it is read kills the reader.
            if not fcntl.fcntl(handle, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise ValueError("a file that may be cut short")
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(handle)


def file_in_memory(data: memoryview) -> int:
    """A file without a name that holds data, and can be neither changed nor cut short."""
    assert sys.platform == "linux"
    handle = os.memfd_create("qfm-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    while data:
        data = data[os.write(handle, data) :]
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return handle
