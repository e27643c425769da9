"""Reads one file: its hash and its pixels at the model's working size, or an error.

Reading threads and reading processes run this code; it does not depend on a network.
"""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import DAMAGED, ImageError, ImageTooLargeError
from qfm_iqm.image.containers import HEADER, container_of
from qfm_iqm.image.decode import MAX_PIXELS, NO_MEMORY, Source, name_of, open_file, opened
from qfm_iqm.image.fetch import fetch_url, is_url
from qfm_iqm.image.pixel_features import pixel_statistics
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.raw import RawReading
from qfm_iqm.image.resize import as_bytes, decoding_bytes, read_resized
from qfm_iqm.image.video import sampled_frames
from qfm_iqm.image.views import Views

Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class Reading:
    """The result of reading one file.

    Attributes:
        path: the file.
        pixels: the image at its working size, (3, H, W), uint8 or floats in [0, 1]; None after an
            error, or if its crops come from another source.
        width: width of the upright image in pixels; None if unknown.
        height: height of the upright image in pixels; None if unknown.
        sha256: hash of the content; empty if it could not be read.
        error: why there are no pixels; else empty.
        too_large: whether it was refused for its pixels, memory or time.
        seconds: time of reading.
        statistics: pixel statistics at the working size, if requested.
        time: for a video frame, seconds since the first frame; None for a file. The reading of the
            video itself follows its frames, without pixels.
        taken: capture time, see `image.capture_time`.
        severities: severity of each cause of low quality, in points, if requested.
    """

    path: str
    pixels: npt.NDArray[Any] | None = None
    width: int | None = None
    height: int | None = None
    sha256: str = ""
    error: str = ""
    too_large: bool = False
    seconds: float = 0.0
    statistics: Doubles | None = None
    time: float | None = None
    taken: str = ""
    severities: Doubles | None = None


@dataclass(frozen=True)
class ReadingPolicy:
    """How files are read.

    Attributes:
        preprocessing: the model's preprocessing.
        max_pixels: larger images are refused.
        allow_truncated: accept the available part of a truncated file.
        raw: how to read camera RAW files, see `image.decode.read_image`.
        statistics: compute pixel statistics (`image.pixel_features`).
        fetch: returns the content of a file; None reads local files and URLs.
        every: interval in seconds between the frames read from a video; None refuses videos.
        causes: estimates severities from the views of an image; None computes none. It is pickled
            to reading processes, which load it again.
    """

    preprocessing: Preprocessing
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    raw: RawReading = "preview"
    statistics: bool = False
    fetch: Fetch | None = None
    every: float | None = None
    causes: Callable[[Views], Doubles] | None = None


def readings(
    path: str,
    policy: ReadingPolicy,
    admit: Callable[[int], None] | None = None,
    large: int = 1 << 40,
    *,
    content: bytes | None = None,
) -> Iterator[Reading]:
    """Reads one file: an image, or a video's frames on demand and then the video itself.

    Arguments are those of `read`.
    """
    if content is None and (policy.fetch is not None or is_url(path)):
        try:
            content = (policy.fetch or fetch)(path)
        except (ImageError, MemoryError) as error:
            yield _failed(path, error)
            return
    header = _header(path) if content is None else content[:HEADER]
    if policy.every is None or container_of(header) is None:
        yield read(path, policy, admit, large, content=content)
    else:
        yield from _read_video(path, policy, policy.every, admit, content)


def _header(path: str) -> bytes:
    try:
        with open_file(path) as file:
            return file.read(HEADER)
    except (ImageError, OSError):
        return b""  # reading the file will raise the error


def _read_video(
    path: str,
    policy: ReadingPolicy,
    every: float,
    admit: Callable[[int], None] | None,
    content: bytes | None,
) -> Iterator[Reading]:
    """Yields the frames of a video, and then the video's reading, without pixels."""
    began = time.perf_counter()
    video = Reading(path)
    try:
        with open_file(path) if content is None else io.BytesIO(content) as file:
            before = _state(file)
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # has readinto
            video = replace(video, sha256=digest.hexdigest())
            frames = sampled_frames(
                file,
                every,
                max_pixels=policy.max_pixels,
                allow_damaged=policy.allow_truncated,
                admit=None if admit is None else partial(_with_content, admit, len(content or b"")),
            )
            for at, frame in frames:
                reading = decoded(path, frame, policy, name=path)
                if video.width is None:
                    video = replace(video, width=reading.width, height=reading.height)
                yield replace(reading, time=at, seconds=time.perf_counter() - began)
                began = time.perf_counter()
            if _state(file) != before:
                raise ImageError("it changed while it was read")
    except (ImageError, MemoryError) as error:
        video = replace(_failed(path, error), sha256=video.sha256)
    except Exception as error:  # decoders raise almost anything on hostile bytes
        damaged = ImageError(DAMAGED)
        damaged.__cause__ = error
        video = replace(_failed(path, damaged), sha256=video.sha256)
    yield replace(video, seconds=time.perf_counter() - began)


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size and modification time of a file, to detect changes."""
    try:
        found = os.fstat(file.fileno())
    except io.UnsupportedOperation:  # bytes in memory, or a member of an archive
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _failed(path: str, error: ImageError | MemoryError) -> Reading:
    """The reading of a file that cannot be read."""
    reason = NO_MEMORY if isinstance(error, MemoryError) else str(error)
    if not reason.startswith("cannot read "):
        reason = f"cannot read {name_of(path)}: {reason}"
    too_large = isinstance(error, MemoryError | ImageTooLargeError)
    return Reading(path, error=reason, too_large=too_large)


def read(
    path: str,
    policy: ReadingPolicy,
    admit: Callable[[int], None] | None = None,
    large: int = 1 << 40,
    *,
    content: bytes | None = None,
) -> Reading:
    """Reads one image; a failure is a reading with its error.

    The content is read once for both hash and pixels, so that a file that is replaced meanwhile
    cannot give the score of one content with the hash of another.

    Args:
        path: the file.
        policy: how to read.
        admit: called once with the most bytes that reading takes; see
            `image.resize.read_resized`.
        large: size in bytes above which only a file's header is read before admission.
        content: content of the file, if it was already read.
    """
    began = time.perf_counter()
    sha256 = ""
    try:
        if content is None:
            if admit is not None and policy.fetch is None and _size(path) > large:
                admit(_needed(path, policy))
                admit = None
            content = (policy.fetch or fetch)(path)
        sha256 = hashlib.sha256(content).hexdigest()
        admission = None if admit is None else partial(_with_content, admit, len(content))
        reading = decoded(path, content, policy, name=path, admit=admission)
    except (ImageError, MemoryError) as error:
        reading = _failed(path, error)
    return replace(reading, sha256=sha256, seconds=time.perf_counter() - began)


def decoded(
    path: str,
    source: Source,
    policy: ReadingPolicy,
    *,
    name: str | None = None,
    admit: Callable[[int], None] | None = None,
) -> Reading:
    """Reads an image from any source at its working size, with statistics and severities.

    Args:
        path: path for the reading.
        source: see `image.decode.read_image`.
        policy: how to read; decides whether statistics and severities are computed.
        name: name of the source in errors; None takes its own name.
        admit: see `image.resize.read_resized`.

    Returns:
        The reading, without hash and time.

    Raises:
        ImageError: it cannot be read or is refused; the message is one sentence.
    """
    image = read_resized(
        source,
        policy.preprocessing,
        name=name,
        max_pixels=policy.max_pixels,
        allow_truncated=policy.allow_truncated,
        raw=policy.raw,
        admit=admit,
        measured=policy.statistics,
        viewed=policy.causes is not None,
    )
    severities = None
    if policy.causes is not None and image.views is not None:
        severities = policy.causes(image.views)
    return Reading(
        path,
        image.pixels,
        image.width,
        image.height,
        statistics=pixel_statistics(as_bytes(image.pixels)) if policy.statistics else None,
        taken=image.taken,
        severities=severities,
    )


def _with_content(admit: Callable[[int], None], content: int, decoding: int) -> None:
    admit(content + decoding)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a str keeps names that Path would rewrite
    except (OSError, ValueError):
        return 0  # reading the file will raise the error


def _needed(path: str, policy: ReadingPolicy) -> int:
    """The memory that reading a file takes, by its size and header."""
    with opened(path, max_pixels=policy.max_pixels, raw=policy.raw) as picture:
        needed = decoding_bytes(picture, policy.preprocessing, measured=policy.statistics)
        return _size(path) + needed


def read_content(path: str) -> bytes:
    """The content of a local file.

    Raises:
        ImageError: it cannot be read, or changed while it was read.
    """
    try:
        with open_file(path) as file:
            before = _state(file)
            content = file.read()
            after = _state(file)
    except ImageError as refusal:
        raise type(refusal)(f"cannot read {name_of(path)}: {refusal}") from refusal.__cause__
    except MemoryError as error:
        raise ImageTooLargeError(f"cannot read {name_of(path)}: {NO_MEMORY}") from error
    except OSError as error:
        raise ImageError(f"cannot read {name_of(path)}: {error.strerror or error}") from error
    if before != after:
        raise ImageError(f"cannot read {name_of(path)}: it changed while it was read")
    return content


def fetch(path: str) -> bytes:
    """The content of a local file or a URL.

    Raises:
        ImageError: it cannot be read, or changed while it was read.
    """
    if not is_url(path):
        return read_content(path)
    try:
        return fetch_url(path)
    except ImageError as refusal:
        raise ImageError(f"cannot read {name_of(path)}: {refusal}") from refusal.__cause__
