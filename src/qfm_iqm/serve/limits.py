"""How much the service takes on: every bound in one place."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of what clients may ask for, and of what is spent on it.

    Attributes:
        file_bytes: of one image.
        request_bytes: of one request.
        files: images in one request.
        pixels: of one image.
        aspect: longer side of one image, in its shorter sides: a strip takes many crops.
        pending_bytes: of all requests that are being served; beyond it, clients wait (429).
        pending_images: images that are being served; beyond it, clients wait (429).
        workers: processes that decode.
        decode_seconds: that one image may take to decode.
        decode_bytes: of memory that a worker may take on for one image.
        receive_seconds: that a client may take to send a request.
    """

    file_bytes: int = 50_000_000
    request_bytes: int = 200_000_000
    files: int = 64
    pixels: int = 50_000_000
    aspect: float = 20.0
    pending_bytes: int = 400_000_000
    pending_images: int = 512
    workers: int = min(4, os.cpu_count() or 1)
    decode_seconds: float = 30.0
    decode_bytes: int = 2_000_000_000
    receive_seconds: float = 60.0
