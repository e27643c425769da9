"""Thumbnails of photos for embedding in a report."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.video import frame_at

SIDE = 240  # twice the size of a card on the page, for high-resolution screens
QUALITY = 62
WORST_SHARE = 0.6


def worth_showing(
    scores: Sequence[float | None], count: int, *, higher_is_better: bool
) -> list[int]:
    """Selects images for thumbnails: mostly the worst, the others spread evenly over the rest.

    Args:
        scores: scores of all images; None for images without a score.
        count: largest number of images.
        higher_is_better: direction of the scores.

    Returns:
        Indices of the images, worst first.
    """
    scored = [(score, place) for place, score in enumerate(scores) if score is not None]
    scored.sort(key=lambda pair: (pair[0] if higher_is_better else -pair[0], pair[1]))
    order = [place for _, place in scored]
    if count >= len(order):
        return order
    worst = round(count * WORST_SHARE)
    rest, left = order[worst:], count - worst
    # The best image, the last of the rest, is always included.
    return order[:worst] + [rest[(i + 1) * len(rest) // left - 1] for i in range(left)]


def thumbnails(
    paths: Sequence[str], times: Sequence[float | None] | None = None
) -> Iterator[str | None]:
    """Yields thumbnails of files in order, as base64 of WebP; None if a file cannot be read.

    They are upright and in sRGB.

    Args:
        paths: paths of the files.
        times: time in seconds of each video's thumbnail; None for a photo.
    """
    with ThreadPoolExecutor(min(4, usable_cores()), thread_name_prefix="thumbnail") as pool:
        yield from pool.map(_thumbnail, paths, times or [None] * len(paths))


def _thumbnail(path: str, time: float | None) -> str | None:
    try:
        pixels_CHW = read_image_uint8(path if time is None else frame_at(path, time))
    except ImageError:
        return None
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    image.thumbnail((SIDE, SIDE), reducing_gap=3.0)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=QUALITY, method=2)
    return base64.b64encode(encoded.getvalue()).decode()
