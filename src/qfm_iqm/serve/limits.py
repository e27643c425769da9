"""All limits of the service."""

from dataclasses import dataclass

from qfm_iqm.image.memory_budget import usable_cores


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of requests and of the resources for them.

    Attributes:
        file_bytes: bytes of an image.
        request_bytes: bytes of a request.
        files: images in a request.
        pixels: pixels of an image.
        aspect: aspect ratio of an image, because a strip needs many crops.
        pending_bytes: bytes of all requests being served; above it, clients must wait (429).
        pending_images: images being served; above it, clients must wait (429).
        workers: number of decoding processes.
        decode_seconds: seconds for decoding an image.
        decode_bytes: memory of a decoding process for an image.
        receive_seconds: seconds for a client to send a request.
    """

    file_bytes: int = 50_000_000
    request_bytes: int = 200_000_000
    files: int = 64
    pixels: int = 50_000_000
    aspect: float = 20.0
    pending_bytes: int = 400_000_000
    pending_images: int = 512
    workers: int = min(4, usable_cores())
    decode_seconds: float = 30.0
    decode_bytes: int = 2_000_000_000
    receive_seconds: float = 60.0
