"""The crops of many images as one stream of full batches.

So small and large images cost what their pixels cost. A score does not depend on the batch size,
the order or the neighbors (within 1e-5 of the label's standard deviation in fp32).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.image.load import Reading
from qfm_iqm.image.preprocess import Preprocessing, covering_crops
from qfm_iqm.scoring.runtimes.base import Crop

_KEPT = 2 << 20  # bytes: a larger image is not kept for the crops that wait for a full batch


@dataclass(frozen=True)
class Crops:
    """The crops that cover an image.

    Attributes:
        pixels: of each, (3, S, S), uint8 or floats in [0, 1]; or what the network takes in its
            place.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        statistics: of its pixels, if the model's card asks for them.
        severities: of the causes of its quality, if they were asked for.
    """

    pixels: Sequence[Crop]
    width: int
    height: int
    statistics: Doubles | None = None
    severities: Doubles | None = None

    @classmethod
    def of(cls, image: Reading, preprocessing: Preprocessing) -> Crops:
        """Those of an image that was read, as views of its pixels."""
        assert image.pixels is not None  # one with an error does not come here
        pixels = list(covering_crops(image.pixels, preprocessing))
        return cls(pixels, image.width or 0, image.height or 0, image.statistics, image.severities)


@dataclass
class Pending:
    """An image on its way, and its crops' scores as they come in.

    Attributes:
        reading: what came of reading it.
        crops: how many it has.
        values: scores of its crops, so far.
        seconds: of computing that they took.
    """

    reading: Reading
    crops: int
    values: list[float] = field(default_factory=list)
    seconds: float = 0.0


def in_batches(
    found: Iterable[tuple[Reading, Sequence[Crop]] | None],
    run: Callable[[list[Crop]], Doubles],
    batch_size: int,
) -> Iterator[Pending]:
    """Scores the crops of images in full batches.

    Args:
        found: readings with their crops, in order; at a None what is waiting goes through in a last
            batch, so that no batch holds crops from both sides of it.
        run: scores a batch of crops.
        batch_size: crops of a full batch.

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
                yield from complete()  # those before a large image do not wait for it
            left = pending.crops - len(pending.values)
            if left and _held(pixels[0]) > _KEPT:
                crops[-left:] = [np.array(crop) for crop in crops[-left:]]
            del one, pixels
        yield from complete()
    if crops:
        run_batch(len(crops))
    yield from complete()


def _held(crop: Crop) -> int:
    """Bytes that a crop keeps in memory: those of the image that it is a view of."""
    whole = np.asarray(crop)
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return whole.nbytes
