"""A decoding worker: a process that turns encoded bytes into pixels, within its limits.

`serve.decoding` starts it. It reads frames on stdin and answers on stdout. Hostile bytes meet the
decoders here, in a process that may neither grow without bound nor write a file, and whose death
costs one image.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from qfm_iqm.errors import ImageError, ImageTooLargeError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.resize import read_fitted
from qfm_iqm.serve.frames import packed, read_frame

MEMORY = "decoding it needs more memory than is allowed"


def main() -> None:
    """Serves frames until stdin ends."""
    # Libraries that print must not print into the answers, nor fill a log with damaged files.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    first = read_frame(sys.stdin.buffer)
    if first is None:
        return
    settings, _ = first
    preprocessing = Preprocessing.model_validate(settings["preprocessing"])
    _limit(settings["decode_bytes"])
    _send(answers, {"ready": True}, b"")
    os.dup2(nowhere, 2)
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        _header, content = frame
        _send(answers, *_decoded(content, settings["pixels"], preprocessing))


def _decoded(
    content: bytes, pixels: int, preprocessing: Preprocessing
) -> tuple[dict[str, Any], bytes | memoryview]:
    """The pixels of an image at its working size, or what is wrong with it."""
    try:
        image = read_fitted(content, preprocessing, max_pixels=pixels)
        values = np.ascontiguousarray(image.pixels)
    except ImageTooLargeError as error:
        return {"code": 413, "error": str(error)}, b""
    except ImageError as error:
        lacking = isinstance(error.__cause__, MemoryError)
        reason = f"cannot read the bytes: {MEMORY}" if lacking else str(error)
        return {"code": 413 if lacking else 415, "error": reason}, b""
    except MemoryError:
        return {"code": 413, "error": f"cannot read the bytes: {MEMORY}"}, b""
    header = {"shape": values.shape, "dtype": values.dtype.str}
    return header | {"width": image.width, "height": image.height}, values.reshape(-1).data.cast(
        "B"
    )


def _send(answers: Any, header: dict[str, Any], body: bytes | memoryview) -> None:
    answers.write(packed(header, len(body)))
    left = memoryview(body)
    while left:
        left = left[answers.write(left) :]


def _limit(decode_bytes: int) -> None:
    """Bounds what this process may take on from here, where the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no Path needed
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + decode_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
