"""The engine that scores many images: it reads ahead and fills batches across images.

Design choices:
* The crops of all images are scored in full batches (`scoring.crop_stream`).
* Files are read ahead, in threads for a few files or in processes for many (`image.decode_pool`);
  the memory of images in flight is bounded.
* Validation and test use this engine too, so that measured results are what users get.

Shapes: K crops of an image, B crops in a batch, S crop size.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from qfm_iqm.arrays import Doubles
from qfm_iqm.causes.network import load_causes
from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import MAX_PIXELS
from qfm_iqm.image.load import Fetch, Reading, ReadingPolicy
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.raw import RawReading
from qfm_iqm.model.prediction import QualityScore, score_of
from qfm_iqm.scoring.crop_stream import CroppedImage, CropSource, Pending, in_batches, with_crops
from qfm_iqm.scoring.inputs import StrPath, not_a_path, path_text
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.scoring.runtimes.load import as_runtime
from qfm_iqm.scoring.video import FrameScore, video_row

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from qfm_iqm.image.preprocess_torch import Pixels
    from qfm_iqm.model.model import QualityModel


class Scorer:
    """Scores many images with one model.

    Args:
        model: a quality model, which torch runs; a loaded runtime; or a name, as for
            `load_runtime`.
        batch_size: crops per batch; None takes the runtime's recommendation.
        readers: number of threads or processes that read images; None takes one per core, at most
            8. With `max_memory`, processes are limited to leave half of it for images.
        processes: read in separate processes instead of threads.
        device: a torch device name; None takes a GPU if there is one. Ignored for a loaded runtime.
        max_pixels: larger images are refused.
        allow_truncated: score the available part of a truncated file.
        raw: how to read camera RAW files, see `image.decode.read_image`.
        max_memory: memory limit of the program in bytes; None allows half of the machine's free
            memory for images in flight. Images that need more are refused.
        fetch: returns the content of a file; None reads local files and URLs.
        source: returns the crops of a file instead of reading it.
        every: interval in seconds between scored video frames; None refuses videos.
        frames: called with each frame of a video, in order, before the video's row.
        shown: return scores on the display scale; False keeps label units, for comparison with
            labels.
        causes: also estimate what lowers each photo's quality (`qfm_iqm.causes`).

    Raises:
        TypeError: `model` is none of these.
        ValueError: a number is not an integer or below 1, `every` is not positive, or `raw` is
            unknown.

    Examples:
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
        raw: RawReading = "preview",
        max_memory: int | None = None,
        fetch: Fetch | None = None,
        source: CropSource | None = None,
        every: float | None = 1.0,
        frames: Callable[[FrameScore], None] | None = None,
        shown: bool = True,
        causes: bool = False,
    ) -> None:
        numbers = {"batch_size": batch_size, "readers": readers, "max_pixels": max_pixels}
        for name, number in {**numbers, "max_memory": max_memory}.items():
            if number is not None and (not isinstance(number, Integral) or number < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, not {number!r}")
        if raw not in get_args(RawReading):
            raise ValueError(f"raw must be one of {', '.join(get_args(RawReading))}, not {raw!r}")
        if every is not None and not (math.isfinite(every) and every > 0):
            raise ValueError(f"every must be a finite number above 0, not {every}")
        self.frames = frames
        self.runtime = runtime = as_runtime(model, device)
        self.batch_size = batch_size or runtime.batch
        self.readers = readers or min(8, usable_cores())
        self.processes = processes
        self.max_memory = max_memory
        self.shown = shown
        self.causes = load_causes() if causes else None
        reference = runtime.card.reference_statistics
        self.policy = ReadingPolicy(
            runtime.card.preprocessing,
            max_pixels,
            allow_truncated,
            raw=raw,
            statistics=shown and reference is not None and reference.ood_detector is not None,
            fetch=fetch,
            every=every,
            causes=self.causes,
        )
        self._source = source

    def score_paths(self, paths: StrPath | Iterable[StrPath]) -> Iterator[ScoreRow]:
        """Scores files; an unreadable file gives a row with its error.

        Args:
            paths: paths and URLs of files, or a single one.

        Returns:
            One row per path, in order.

        Raises:
            TypeError: a value is not a path; items of an iterable are checked when they are used.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        if isinstance(paths, bytes | bytearray) or not isinstance(paths, Iterable):
            raise not_a_path(paths)
        return self._stream(map(path_text, paths))

    def score_groups(self, groups: Iterable[Sequence[str]]) -> Iterator[list[ScoreRow]]:
        """Scores groups of files one after another, without a pause between them.

        No batch holds crops of two groups, so that a group's scores are bit-identical to those of
        the group alone. The next group is requested while the previous one is still in flight.

        Yields:
            The rows of each non-empty group.
        """
        sizes: deque[int] = deque()

        def items() -> Iterator[str | None]:
            for group in groups:
                sizes.append(len(group))
                yield from map(path_text, group)
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
        """Scores images in memory, without gradients.

        Args:
            images: RGB images: a tensor (B, 3, H, W) or array (B, H, W, 3), or an iterable of
                tensors (3, H, W) or arrays (H, W, 3); floats in [0, 1] or uint8. Values outside the
                range by at most `OVERSHOOT` (`image.preprocess_torch`) are clamped.

        Returns:
            Scores (B,), float64, on the same scale as in rows.

        Raises:
            TypeError: an image is neither a tensor nor an array.
            ValueError: its shape or type is wrong, or values are not finite or out of range.
        """
        import torch  # imported here: scoring files may not need torch

        from qfm_iqm.image import preprocess_torch as tensors

        crops, counts = tensors.crops_of_images(images, self.runtime.card.preprocessing)
        size = self.batch_size
        values = [self.runtime.run(crops[i : i + size]) for i in range(0, len(crops), size)]
        if not values:
            return torch.empty(0, dtype=torch.float64)
        parts = np.split(np.concatenate(values), np.cumsum(counts)[:-1])
        return torch.tensor([self._score(part).value for part in parts], dtype=torch.float64)

    def _stream(self, items: Iterable[str | None]) -> Iterator[ScoreRow]:
        """Scores files in order; at a None, waiting crops are scored in a last batch."""
        frames: list[FrameScore] = []
        severities: list[Doubles] = []  # severities of these frames
        seconds, failure = 0.0, ""
        for pending in in_batches(self._read_ahead(items), self.runtime.run, self.batch_size):
            row = self._row(pending, frames)
            if (time := pending.reading.time) is not None:  # the video's row comes after its frames
                seconds += row.seconds
                failure = failure or row.error
                if row.score is not None:
                    frames.append(FrameScore(row.path, time, row.score, row.out_of_distribution))
                    if pending.reading.severities is not None:
                        severities.append(pending.reading.severities)
                continue
            if failure and row.status == "ok":
                row = self._row(
                    replace(pending, reading=replace(pending.reading, error=failure)), ()
                )
            if row.status == "ok" and self.frames is not None:
                for frame in frames:
                    self.frames(frame)
            if severities and row.status == "ok":
                row = self._with_causes(row, np.mean(severities, 0))
            yield replace(row, seconds=round(row.seconds + seconds, 6))
            frames, severities, seconds, failure = [], [], 0.0, ""

    def _read_ahead(self, items: Iterable[str | None]) -> Iterator[CroppedImage | None]:
        """Reads files ahead; yields readings with their crops, in order."""
        # Imported here: scoring one photo on the command line needs no processes.
        from qfm_iqm.image.decode_pool import read_ahead
        from qfm_iqm.image.decode_threads import call_in_threads

        if self._source is not None:
            yield from call_in_threads(items, self._from_source, self.readers)
            return
        coming = read_ahead(
            items,
            self.policy,
            self.readers,
            processes=self.processes,
            max_memory=self.max_memory,
        )
        yield from map(self._with_crops, coming)  # keeps no reference to an image

    def _from_source(self, path: str) -> CroppedImage:
        """A reading with the crops from `source`."""
        assert self._source is not None
        try:
            return self._source(path)
        except ImageError as error:
            return Reading(path, error=str(error)), []

    def _with_crops(self, reading: Reading | None) -> CroppedImage | None:
        return None if reading is None else with_crops(reading, self.policy.preprocessing)

    def _score(self, values_K: Doubles, reading: Reading | None = None) -> QualityScore:
        """The image's score from the predictions for its crops, by the model's card."""
        return score_of(
            self.runtime.card,
            values_K,
            width=(reading and reading.width) or 0,
            height=(reading and reading.height) or 0,
            statistics=None if reading is None else reading.statistics,
            shown=self.shown,
        )

    def _row(self, pending: Pending, frames: Sequence[FrameScore]) -> ScoreRow:
        """The row of a photo, of a frame, or of a video after its frames."""
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
        if frames and reading.time is None:
            label = self.runtime.card.label
            row = replace(row, width=reading.width, height=reading.height)
            better = (label.shown if self.shown else label).higher_is_better
            return video_row(row, frames, higher_is_better=better)
        values_K = np.array(pending.values)
        if not np.isfinite(values_K).all():
            error = f"The model's scores of {reading.path} are not finite numbers."
            return replace(row, status="error", error=error)
        score = self._score(values_K, reading)
        if reading.severities is not None:
            row = self._with_causes(row, reading.severities)
        return replace(
            row,
            width=reading.width,
            height=reading.height,
            score=round(score.value, 6),
            crop_std=round(score.crop_std, 6),
            percentile=_rounded(score.percentile, 1),
            mos_low=_rounded(score.mos_low, 3),
            mos_high=_rounded(score.mos_high, 3),
            out_of_distribution=score.out_of_distribution,
        )

    def _with_causes(self, row: ScoreRow, severities_6: Doubles) -> ScoreRow:
        """Adds the causes of low quality to a row."""
        if self.causes is None:
            return row
        found = self.causes.causes(severities_6)
        severities: dict[str, Any] = dict(found.severities)
        return replace(row, cause=found.main, second_cause=found.second, **severities)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
