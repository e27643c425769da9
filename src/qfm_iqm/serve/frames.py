"""How the service and its decoding workers talk: a JSON header and bytes, lengths first.

Nothing is unpickled: a worker that has been taken over by a hostile image can say nothing but
numbers and text.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_LENGTHS = struct.Struct("<IQ")
LENGTHS_SIZE = _LENGTHS.size


def packed(header: dict[str, Any], body_bytes: int) -> bytes:
    """What stands before the body of a frame."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), body_bytes) + text


def lengths(start: bytes | bytearray) -> tuple[int, int]:
    """Bytes of a frame's header and body, out of its first `LENGTHS_SIZE` bytes."""
    header, body = _LENGTHS.unpack(start)
    return header, body


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame of a blocking stream; None at its end."""
    start = stream.read(LENGTHS_SIZE)
    if len(start) < LENGTHS_SIZE:
        return None
    header_bytes, body_bytes = lengths(start)
    header: dict[str, Any] = json.loads(stream.read(header_bytes))
    return header, stream.read(body_bytes)
