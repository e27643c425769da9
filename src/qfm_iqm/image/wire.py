"""Messages between a decoding process and its parent: frames with a JSON header and bytes.

Instead of the bytes a frame may carry the handle of an anonymous file in memory. The file has no
name, so that nothing is left behind if a process is killed, and it is sealed, so that it cannot be
shortened while it is read.
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

_LENGTHS = struct.Struct("<IQ")  # lengths of header and body in bytes
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
    """Receives a header and a body, which may be the content of a file in memory.

    Args:
        source: the socket.
        most: largest body in bytes.
        deadline: deadline by the monotonic clock; None waits forever.

    Raises:
        EOFError: the connection has ended.
        TimeoutError: the deadline has passed.
        ValueError: the data are not a valid frame.
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
        raise ValueError("the frame is too long")
    header = json.loads(_exactly(source, header_bytes, deadline))
    if not isinstance(header, dict):
        raise ValueError("no header")
    received = _exactly(source, body_bytes, deadline)
    return header, received if body is None else body


def _exactly(source: socket.socket, size: int, deadline: float | None) -> bytearray:
    """Receives exactly `size` bytes from a socket."""
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
    """Sets the timeout of a socket's next operation to a deadline."""
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    end.settimeout(left)


def _mapped(handle: int) -> mmap.mmap:
    """Maps the content of a file in memory and closes its handle."""
    try:
        if sys.platform == "linux":
            # If a mapped file were shortened, reading it would kill this process.
            if not fcntl.fcntl(handle, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise ValueError("the file is not sealed")
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(handle)


def file_in_memory(data: memoryview) -> int:
    """Creates an anonymous, sealed file in memory that holds data."""
    assert sys.platform == "linux"
    handle = os.memfd_create("qfm-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    while data:
        data = data[os.write(handle, data) :]
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
    return handle
