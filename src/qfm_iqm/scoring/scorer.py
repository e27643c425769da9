"""The engine that scores many images: reads ahead, and fills batches across images.

Design choices:
* The crops of all images flow through the network in one stream of full batches, so that small
  and large images cost what their pixels cost. A score does not depend on the batch size, the
  order or the neighbours (within 1e-5 of the label's standard deviation in fp32).
* Reading happens ahead, in threads for a few files or in processes for many (`image.decode_pool`);
  memory stays bounded by the images in flight.
* Validation and test score through this same engine: what is measured is what users get.

Shapes: K crops of an image, B crops in a batch, S crop size.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import MAX_PIXELS
from qfm_iqm.image.load import Fetch, Reading, ReadingPolicy
from qfm_iqm.image.memory_budget import images_share, readers_within
from qfm_iqm.image.preprocess import covering_crops
from qfm_iqm.model.prediction import QualityScore, score_of
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Crop, Runtime

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from qfm_iqm.image.preprocess_torch import Pixels
    from qfm_iqm.model.model import QualityModel

StrPath = str | os.PathLike[str]

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
    """

    pixels: Sequence[Crop]
    width: int
    height: int
    statistics: npt.NDArray[np.float64] | None = None


@dataclass
class _Pending:
    """An image on its way: its crops' scores as they come in."""

    reading: Reading
    crops: int
    values: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        return len(self.values) == self.crops


class Scorer:
    """Scores many images with one model.

    Args:
        model: a quality model, computed by torch; a loaded runtime; or a name, as `load_runtime`
            takes it.
        batch_size: crops that go through the network at once; None takes what is best for the
            runtime.
        readers: threads, or processes, that read images; None takes one per core, at most 8.
            Within `max_memory` there are as many processes as leave half of it to images.
        processes: read in processes of their own, not in threads of this one.
        device: torch's name; None takes a GPU if there is one. A loaded runtime has its own.
        max_pixels: larger images are refused.
        allow_truncated: score the part of a truncated file that is there.
        max_memory: bytes that the program may take; None takes half of what the machine has free
            for the images on their way. Images that would take more than there is are refused.
        fetch: gives the content of a file; None reads local files and URLs.
        source: gives the crops of a file in place of reading it.
        shown: scores on the scale that people are shown; False keeps them in label units, to be
            compared with labels.

    Raises:
        TypeError: the model is none of these.
        ValueError: a number is below 1.

    >>> (row,) = Scorer("default").score_paths(["gone.jpg"])
    >>> row.status, row.score
    ('error', None)
    """

    def __init__(
        self,
        model: QualityModel | Runtime | str,
        *,
        batch_size: int | None = None,
        readers: int | None = None,
        processes: bool = False,
        device: str | torch.device | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_truncated: bool = False,
        max_memory: int | None = None,
        fetch: Fetch | None = None,
        source: Callable[[str], Crops] | None = None,
        shown: bool = True,
    ) -> None:
        numbers = {"batch_size": batch_size, "readers": readers, "max_pixels": max_pixels}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        self.runtime = runtime = _runtime_of(model, device)
        self.batch_size = batch_size or runtime.batch
        self.readers = readers or min(8, os.cpu_count() or 1)
        self.processes = processes
        self.max_memory = max_memory
        self.shown = shown
        meaning = runtime.card.meaning
        self.policy = ReadingPolicy(
            runtime.card.preprocessing,
            max_pixels,
            allow_truncated,
            statistics=shown and meaning is not None and meaning.usual is not None,
            fetch=fetch,
        )
        self._source = source

    def score_paths(self, paths: StrPath | Iterable[StrPath]) -> Iterator[ScoreRow]:
        """Scores files; a file that cannot be read becomes a row with its error.

        Args:
            paths: of files, and URLs; or a single one.

        Returns:
            One row per path, in the order given.

        Raises:
            TypeError: what is given is no path; of what an iterable gives, when its turn comes.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        if isinstance(paths, bytes | bytearray) or not isinstance(paths, Iterable):
            raise _not_a_path(paths)
        return self._stream(map(_path, paths))

    def score_groups(self, groups: Iterable[Sequence[str]]) -> Iterator[list[ScoreRow]]:
        """Scores groups of files, one after the other and without a pause between them.

        No batch holds crops of two groups: to the bit, a group's scores are those of the group
        alone. The next group is asked for while the one before is still on its way.

        Yields:
            The rows of each group that is not empty.
        """
        sizes: deque[int] = deque()

        def items() -> Iterator[str | None]:
            for group in groups:
                sizes.append(len(group))
                yield from map(_path, group)
                yield None

        rows: list[ScoreRow] = []
        for row in self._stream(items()):
            rows.append(row)
            while sizes and sizes[0] == 0:
                sizes.popleft()
            if len(rows) == sizes[0]:
                sizes.popleft()
                yield rows
                rows = []

    def score_batch(self, images: Pixels | Iterable[Pixels]) -> Tensor:
        """Scores images that are in memory, without gradients.

        Args:
            images: RGB, a tensor (B, 3, H, W) or one (3, H, W) for each image; or arrays
                (B, H, W, 3) or (H, W, 3): floats in [0, 1], or uint8. Values beyond the range by
                `OVERSHOOT` at most (`image.preprocess_torch`) are clamped.

        Returns:
            Scores (B,), float64: those of rows.

        Raises:
            TypeError: an image is neither a tensor nor an array.
            ValueError: it is of another shape or type, not finite, or beyond the range.
        """
        import torch  # here, as files are scored without

        from qfm_iqm.image import preprocess_torch as tensors

        preprocessing = self.runtime.card.preprocessing
        crops: list[Crop] = []
        counts: list[int] = []
        wanted = "RGB tensors (3, H, W), or arrays (H, W, 3)"
        if not isinstance(images, Iterable):
            raise TypeError(f"images must be {wanted}, not of type {type(images).__name__}")
        shape = tuple(getattr(images, "shape", ()))
        if len(shape) not in (0, 4):  # not each image by itself: its rows are none
            raise ValueError(f"images must be {wanted}, or a batch of them, not {shape}")
        for image in images:
            image_CHW = tensors.checked_pixels(image, "images", wanted, dimensions=3)
            fitted_CHW = tensors.fit(image_CHW.detach().cpu().float(), preprocessing)
            covering = list(tensors.covering_crops(fitted_CHW, preprocessing))
            crops.extend(covering)
            counts.append(len(covering))
        size = self.batch_size
        values = [self.runtime.run(crops[i : i + size]) for i in range(0, len(crops), size)]
        if not values:
            return torch.empty(0, dtype=torch.float64)
        parts = np.split(np.concatenate(values), np.cumsum(counts)[:-1])
        return torch.tensor([self._score(part).value for part in parts], dtype=torch.float64)

    # ---- the stream ----

    def _stream(self, items: Iterable[str | None]) -> Iterator[ScoreRow]:
        """Scores what comes, in order; at a None what is waiting goes through in a last batch."""
        waiting: deque[_Pending] = deque()
        crops: list[Crop] = []
        owners: list[_Pending] = []

        def run(count: int) -> None:
            began = time.perf_counter()
            scores_B = self.runtime.run(crops[:count])
            seconds = (time.perf_counter() - began) / count
            for owner, score in zip(owners, scores_B.tolist(), strict=False):
                owner.values.append(score)
                owner.seconds += seconds
            del crops[:count], owners[:count]

        def finished() -> Iterator[ScoreRow]:
            while waiting and waiting[0].complete:
                yield self._row(waiting.popleft())

        for found in self._read_ahead(items):
            if found is None:
                if crops:
                    run(len(crops))
            else:
                reading, pixels = found
                pending = _Pending(reading, len(pixels))
                waiting.append(pending)
                crops.extend(pixels)
                owners.extend([pending] * len(pixels))
                while len(crops) >= self.batch_size:
                    run(self.batch_size)
                    yield from finished()  # those before a large image do not wait for it
                left = pending.crops - len(pending.values)
                if left and _held(pixels[0]) > _KEPT:
                    crops[-left:] = [np.array(crop) for crop in crops[-left:]]
                del found, pixels
            yield from finished()
        if crops:
            run(len(crops))
        yield from finished()

    def _read_ahead(
        self, items: Iterable[str | None]
    ) -> Iterator[tuple[Reading, Sequence[Crop]] | None]:
        """Reads files ahead and gives what came of them, with their crops, in order."""
        # Here, not above: the command line that scores one photo needs no processes.
        from qfm_iqm.image import decode_pool as readers

        number = self.readers
        if self._source is not None:
            yield from readers.call_in_threads(items, self._from_source, number)
            return
        if self.processes:
            if self.max_memory is not None:
                number = readers_within(self.max_memory, number)
            memory = images_share(self.max_memory, number)
            coming = readers.read_in_processes(items, self.policy, number, memory)
        else:
            memory = images_share(self.max_memory, 0)
            coming = readers.read_in_threads(items, self.policy, number, memory)
        yield from map(self._with_crops, coming)  # holds on to none of the images

    def _from_source(self, path: str) -> tuple[Reading, Sequence[Crop]]:
        """The crops that the source gives of a file."""
        assert self._source is not None
        try:
            crops = self._source(path)
        except ImageError as error:
            return Reading(path, error=str(error)), []
        reading = Reading(path, width=crops.width, height=crops.height, statistics=crops.statistics)
        return reading, crops.pixels

    def _with_crops(self, reading: Reading | None) -> tuple[Reading, Sequence[Crop]] | None:
        """A reading, now without its pixels, and the crops of the image as views of them."""
        if reading is None or reading.pixels is None:
            return None if reading is None else (reading, [])
        crops = covering_crops(reading.pixels, self.runtime.card.preprocessing)
        return replace(reading, pixels=None), list(crops)

    def _score(
        self, values_K: npt.NDArray[np.float64], reading: Reading | None = None
    ) -> QualityScore:
        """What the model's card makes of the crops' scores."""
        return score_of(
            self.runtime.card,
            values_K,
            width=(reading and reading.width) or 0,
            height=(reading and reading.height) or 0,
            statistics=None if reading is None else reading.statistics,
            shown=self.shown,
        )

    def _row(self, pending: _Pending) -> ScoreRow:
        reading = pending.reading
        row = ScoreRow(
            path=reading.path,
            sha256=reading.sha256,
            model=self.runtime.card.name,
            weights=self.runtime.weights,
            runtime=self.runtime.name,
            precision=self.runtime.precision,
            seconds=round(reading.seconds + pending.seconds, 6),
        )
        if reading.error:
            return replace(row, status="error", error=reading.error)
        values_K = np.array(pending.values)
        if not np.isfinite(values_K).all():
            error = f"The model's scores of {reading.path} are not finite numbers."
            return replace(row, status="error", error=error)
        score = self._score(values_K, reading)
        return replace(
            row,
            width=reading.width,
            height=reading.height,
            score=round(score.value, 6),
            spread=round(score.spread, 6),
            percentile=_rounded(score.percentile, 1),
            low=_rounded(score.low, 3),
            high=_rounded(score.high, 3),
            unusual=score.unusual,
        )


def _held(crop: Crop) -> int:
    """Bytes that a crop keeps in memory: those of the image that it is a view of."""
    whole = np.asarray(crop)
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return whole.nbytes


def _path(path: StrPath) -> str:
    """A path as text."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise _not_a_path(path)
    return text


def _not_a_path(found: object) -> TypeError:
    return TypeError(
        f"paths must be of type str or os.PathLike, not {type(found).__name__}: QualityModel.score "
        "takes bytes and images, Scorer.score_batch takes tensors"
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _runtime_of(model: QualityModel | Runtime | str, device: str | torch.device | None) -> Runtime:
    """What computes a model."""
    if isinstance(model, Runtime):
        return model
    if isinstance(model, str):
        from qfm_iqm.scoring.runtimes.load import load_runtime

        return load_runtime(model, device=None if device is None else str(device))
    # Here, not above: an exported model is scored without the networks' libraries.
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

    if not isinstance(model, QualityModel):
        kind = type(model).__name__
        raise TypeError(f"model must be a QualityModel, a loaded runtime or a name, not {kind}")
    return TorchRuntime(model, device=device)
