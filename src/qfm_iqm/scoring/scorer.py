"""The engine that scores many images: reads ahead, and fills batches across images.

Design choices:
* The crops of all images flow through the network in one stream of full batches, so that small
  and large images cost what their pixels cost. A score does not depend on the batch size, the
  order or the neighbours (within 1e-5 of the label's standard deviation in fp32).
* Reading happens in threads: Pillow decodes outside Python's lock. Few images are read ahead,
  so memory stays bounded by the images in flight.
* Validation and test score through this same engine: what is measured is what users get.

Shapes: K crops of an image, B crops in a batch, S crop size.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qfm_iqm.errors import ImageError
from qfm_iqm.image.cropping import covering_crops, fit
from qfm_iqm.image.reading import read_image
from qfm_iqm.network.model import QualityModel
from qfm_iqm.network.score import score_of
from qfm_iqm.scoring.rows import ScoreRow


@dataclass(frozen=True)
class Crops:
    """The crops that cover an image.

    Attributes:
        pixels: of each, (3, S, S) in [0, 1]; or what the network takes in its place.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        statistics: of its pixels, if the model's card asks for them.
    """

    pixels: list[Tensor]
    width: int
    height: int
    statistics: npt.NDArray[np.float64] | None = None


@dataclass
class _Pending:
    """An image on its way: its crops' scores as they come in."""

    path: str
    width: int = 0
    height: int = 0
    crops: int = 0
    error: str = ""
    statistics: npt.NDArray[np.float64] | None = None
    values: list[Tensor] = field(default_factory=list)
    done: int = 0


class Scorer:
    """Scores many images with one model.

    Args:
        model: moved to `device`, set to evaluation.
        batch_size: crops that go through the network at once.
        readers: threads that read images; None takes one per core, at most 8.
        device: torch's name; None takes a GPU if there is one.
        max_pixels: larger images are refused.
        allow_truncated: score the part of a truncated file that is there.
        source: gives the crops of a file in place of reading it.
        shown: scores on the scale that people are shown; False keeps them in label units, to be
            compared with labels.
    """

    def __init__(
        self,
        model: QualityModel,
        *,
        batch_size: int = 32,
        readers: int | None = None,
        device: str | torch.device | None = None,
        max_pixels: int = 250_000_000,
        allow_truncated: bool = False,
        source: Callable[[str], Crops] | None = None,
        shown: bool = True,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.batch_size = batch_size
        self.readers = readers or min(8, os.cpu_count() or 1)
        self.max_pixels = max_pixels
        self.allow_truncated = allow_truncated
        self.shown = shown
        self._source = source or self._covering

    def score_paths(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[ScoreRow]:
        """Scores files; a file that cannot be read becomes a row with its error.

        Yields:
            One row per path, in the order given.
        """
        waiting: deque[_Pending] = deque()
        crops: list[Tensor] = []
        owners: list[_Pending] = []
        for pending, crops_KCSS in self._read_ahead(paths):
            waiting.append(pending)
            crops.extend(crops_KCSS)
            owners.extend([pending] * pending.crops)
            while len(crops) >= self.batch_size:
                self._run(crops[: self.batch_size], owners[: self.batch_size])
                del crops[: self.batch_size], owners[: self.batch_size]
            while waiting and waiting[0].done == waiting[0].crops:
                yield self._row(waiting.popleft())
        if crops:
            self._run(crops, owners)
        for pending in waiting:
            yield self._row(pending)

    def _read_ahead(
        self, paths: Iterable[str | os.PathLike[str]]
    ) -> Iterator[tuple[_Pending, list[Tensor]]]:
        """Reads files in threads, a few ahead, and gives them back in order."""
        with ThreadPoolExecutor(self.readers, thread_name_prefix="read") as pool:
            ahead: deque[Future[tuple[_Pending, list[Tensor]]]] = deque()
            try:
                for path in paths:
                    ahead.append(pool.submit(self._read, os.fspath(path)))
                    if len(ahead) > 2 * self.readers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, path: str) -> tuple[_Pending, list[Tensor]]:
        """Reads one file into the crops that cover it."""
        try:
            crops = self._source(path)
        except ImageError as error:
            return _Pending(path, error=str(error)), []
        pending = _Pending(
            path, crops.width, crops.height, len(crops.pixels), statistics=crops.statistics
        )
        return pending, crops.pixels

    def _covering(self, path: str) -> Crops:
        image_CHW = read_image(
            path, max_pixels=self.max_pixels, allow_truncated=self.allow_truncated
        )
        preprocessing = self.model.card.preprocessing
        fitted_CHW = fit(image_CHW, preprocessing)
        crops = list(covering_crops(fitted_CHW, preprocessing.crop))
        height, width = image_CHW.shape[-2:]
        statistics = self.model.statistics(fitted_CHW) if self.shown else None
        return Crops(crops, width, height, statistics)

    @torch.inference_mode()
    def _run(self, crops: list[Tensor], owners: list[_Pending]) -> None:
        """Sends one batch of crops through the network and hands the scores out."""
        scores_B = self.model.network(torch.stack(crops).to(self.device)).cpu().double()
        for owner, score in zip(owners, scores_B.unbind(), strict=True):
            owner.values.append(score)
            owner.done += 1

    def _row(self, pending: _Pending) -> ScoreRow:
        name = self.model.card.name
        if pending.error:
            return ScoreRow(pending.path, None, None, None, None, "error", pending.error, name)
        values = torch.stack(pending.values)
        if not values.isfinite().all():
            reason = f"The model's scores of {pending.path} are not finite numbers."
            return ScoreRow(pending.path, None, None, None, None, "error", reason, name)
        score = score_of(
            self.model.card,
            values.numpy(),
            width=pending.width,
            height=pending.height,
            statistics=pending.statistics,
            shown=self.shown,
        )
        return ScoreRow(
            path=pending.path,
            score=round(score.value, 6),
            spread=round(score.spread, 6),
            width=score.width,
            height=score.height,
            status="ok",
            error="",
            model=name,
            percentile=_rounded(score.percentile, 1),
            low=_rounded(score.low, 3),
            high=_rounded(score.high, 3),
            unusual=score.unusual,
        )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
