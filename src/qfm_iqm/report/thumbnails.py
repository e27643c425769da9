"""Small copies of photos, to be carried inside a report."""

import base64
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.video import frame_at

SIDE = 240  # twice what a card takes on the page, for sharp screens
QUALITY = 62
WORST_SHARE = 0.6


def worth_showing(
    scores: Sequence[float | None], count: int, *, higher_is_better: bool
) -> list[int]:
    """Which images get a thumbnail: most of them the worst, the others spread evenly over the rest.

    Args:
        scores: of all images; None for those without.
        count: how many at most.
        higher_is_better: the direction of the scores.

    Returns:
        Their places, worst first.
    """
    scored = [(score, place) for place, score in enumerate(scores) if score is not None]
    scored.sort(key=lambda pair: (pair[0] if higher_is_better else -pair[0], pair[1]))
    order = [place for _, place in scored]
    if count >= len(order):
        return order
    worst = round(count * WORST_SHARE)
    rest, left = order[worst:], count - worst
    # The last of the rest, the best image, is always among them.
    return order[:worst] + [rest[(i + 1) * len(rest) // left - 1] for i in range(left)]


def thumbnails(
    paths: Sequence[str], times: Sequence[float | None] | None = None
) -> Iterator[str | None]:
    """Thumbnails of files in the order given, as base64 of WebP; None where a file cannot be read.

    Read by the one decoder: upright, and in sRGB.

    Args:
        paths: of the files.
        times: of each video, the seconds at which its thumbnail is taken; None of a photo.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="thumbnail") as pool:
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
