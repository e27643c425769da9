"""Scores the crops of many images in one stream of full batches.

The cost of an image thus depends only on its pixels. A score does not depend on batch size, order
or neighboring images (within 1e-5 standard deviations of the labels in fp32).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.image.load import Reading
from qfm_iqm.image.preprocess import Preprocessing, covering_crops
from qfm_iqm.scoring.runtimes.base import Crop

_KEPT = 2 << 20  # bytes; crops that wait for a full batch are copied out of larger images


CroppedImage = tuple[Reading, Sequence[Crop]]
"""An image's reading without its pixels, and its crops: (3, S, S) each, uint8 or floats in [0, 1];
or frozen features."""

CropSource = Callable[[str], CroppedImage]
"""Returns the crops of a file; raises an `ImageError` if it cannot be read."""


def with_crops(reading: Reading, preprocessing: Preprocessing) -> CroppedImage:
    """A reading without its pixels, and the crops that cover them as views; none after an error."""
    if reading.pixels is None:
        return reading, []
    return replace(reading, pixels=None), list(covering_crops(reading.pixels, preprocessing))


@dataclass
class Pending:
    """An image in flight, with the scores of its crops so far.

    Attributes:
        reading: the image's reading.
        crops: number of its crops.
        values: scores of its crops so far.
        seconds: computing time of these scores.
    """

    reading: Reading
    crops: int
    values: list[float] = field(default_factory=list)
    seconds: float = 0.0


def in_batches(
    found: Iterable[CroppedImage | None],
    run: Callable[[list[Crop]], Doubles],
    batch_size: int,
) -> Iterator[Pending]:
    """Scores the crops of images in full batches.

    Args:
        found: readings with their crops, in order. At a None, waiting crops are scored in a last
            batch, so that no batch holds crops from both sides of it.
        run: scores a batch of crops.
        batch_size: number of crops in a full batch.

    Yields:
        Each image with the scores of all its crops, in order.
    """
    waiting: deque[Pending] = deque()
    crops: list[Crop] = []
    owners: list[Pending] = []

    def run_batch(count: int) -> None:
        began = time.perf_counter()
        scores_B = run(crops[:count])
        seconds = (time.perf_counter() - began) / count
        for owner, score in zip(owners, scores_B.tolist(), strict=False):
            owner.values.append(score)
            owner.seconds += seconds
        del crops[:count], owners[:count]

    def complete() -> Iterator[Pending]:
        while waiting and len(waiting[0].values) == waiting[0].crops:
            yield waiting.popleft()

    for one in found:
        if one is None:
            if crops:
                run_batch(len(crops))
        else:
            reading, pixels = one
            pending = Pending(reading, len(pixels))
            waiting.append(pending)
            crops.extend(pixels)
            owners.extend([pending] * len(pixels))
            while len(crops) >= batch_size:
                run_batch(batch_size)
                yield from complete()  # images before a large one need not wait for it
            left = pending.crops - len(pending.values)
            if left and _held(pixels[0]) > _KEPT:
                crops[-left:] = [np.array(crop) for crop in crops[-left:]]
            del one, pixels
        yield from complete()
    if crops:
        run_batch(len(crops))
    yield from complete()


def _held(crop: Crop) -> int:
    """Bytes that a crop keeps in memory: the size of the image that it is a view of."""
    whole = np.asarray(crop)
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return whole.nbytes
