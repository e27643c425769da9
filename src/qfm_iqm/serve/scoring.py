"""Scores clients' images: decodes them in processes, and scores those of all clients together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qfm_iqm.culling.comparison import native
from qfm_iqm.culling.sights import Sight, seen, sight_of
from qfm_iqm.image.decode_pool import DecodingPool
from qfm_iqm.image.load import Reading
from qfm_iqm.report.maps import map_data
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.serve.batching import Batcher
from qfm_iqm.serve.limits import Limits
from qfm_iqm.serve.metrics import Metrics
from qfm_iqm.serve.receiving import RequestError, Upload

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel

PLAIN, WITH_CAUSES, NATIVE = range(3)  # indices of the reading policies
AHEAD = 16  # most images in flight per worker, which bounds memory


class ScoringService:
    """A decoding pool and a batcher that are started and stopped together.

    Args:
        model: the model for scores.
        explainer: returns the model for maps, at the first request for one; None takes `model`.
        limits: limits of the service.
        metrics: metrics to update.
        device: a torch device name; None takes a GPU if there is one.

    Raises:
        QFMError: a decoding process does not start.
    """

    def __init__(
        self,
        model: QualityModel | Runtime,
        limits: Limits,
        metrics: Metrics,
        device: str | None = None,
        explainer: Callable[[], QualityModel] | None = None,
    ) -> None:
        self.model = model
        self.limits = limits
        self._metrics = metrics
        self._batcher = Batcher(
            model, explainer=explainer, device=device, observe=metrics.together.observe
        )
        policy = replace(self._batcher.policy, max_pixels=limits.pixels, every=None)
        self._pool = DecodingPool(
            [replace(policy, causes=None), policy, native(policy)],
            limits.workers,
            limits.decode_seconds,
            limits.decode_bytes,
        )
        self._threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="decode")
        self._ahead = asyncio.Semaphore(limits.workers * AHEAD)
        metrics.watch(
            "qfm_decoder_restarts",
            "Decoding processes that were replaced.",
            lambda: float(self._pool.restarts),
        )

    def close(self) -> None:
        """Stops when all running work is done."""
        self._threads.shutdown()
        self._batcher.close()
        self._pool.close()

    async def score(self, upload: Upload, *, causes: bool = False) -> tuple[int, ScoreRow]:
        """An image's row, and the HTTP code that it would have alone.

        Args:
            upload: the image; the row has its name as path.
            causes: also estimate what lowers its quality.
        """
        code, row, _ = await self._scored(upload, WITH_CAUSES if causes else PLAIN)
        return code, row

    async def sight(self, upload: Upload) -> tuple[int, Sight]:
        """The sight of a photo for culling, and the HTTP code that it would have alone."""
        code, row, image = await self._scored(upload, PLAIN, seen)
        return code, sight_of(row, image)

    def native(self, name: str, content: bytes) -> Reading:
        """Reads a photo at native resolution for comparison; blocks until it is decoded."""
        return self._pool.decode(content, name, policy=NATIVE)

    async def explain(self, upload: Upload) -> dict[str, Any]:
        """An image's quality map.

        Raises:
            RequestError: the image cannot be read.
            ModelError: the model cannot draw maps.
        """
        async with self._ahead:
            code, image = await self._decode(upload, PLAIN)
            if code != 200:
                raise RequestError(code, image.error)
            found = await asyncio.wrap_future(self._batcher.explain(image))
        return {"name": upload.name} | map_data(found, self.model.card.label.shown)

    async def _scored(
        self, upload: Upload, policy: int, look: Callable[[Reading], Reading] | None = None
    ) -> tuple[int, ScoreRow, Reading]:
        """An image's HTTP code, its row, and its reading without pixels."""
        async with self._ahead:
            code, image = await self._decode(upload, policy, look)
            row: ScoreRow = await asyncio.wrap_future(self._batcher.score(image))
        self._metrics.images.labels(row.status if code == 200 else "refused").inc()
        return code, replace(row, path=upload.name), replace(image, pixels=None)

    async def _decode(
        self, upload: Upload, policy: int, look: Callable[[Reading], Reading] | None = None
    ) -> tuple[int, Reading]:
        """An image's HTTP code, and its reading, which has an error unless the code is 200."""
        most = self.limits.file_bytes
        if len(upload.content) > most:
            reason = f"cannot read {upload.name!r}: it exceeds {most / 1e6:g} MB"
            return 413, Reading(upload.name, error=reason)

        def read() -> Reading:
            image = self._pool.decode(upload.content, upload.name, policy=policy)
            return image if look is None else look(image)

        image = await asyncio.get_running_loop().run_in_executor(self._threads, read)
        if image.error:
            return 413 if image.too_large else 415, image
        sides = sorted((image.width or 1, image.height or 1))
        if sides[1] > self.limits.aspect * sides[0]:
            times = f"{self.limits.aspect:g} times as long as the other"
            reason = f"cannot read {upload.name!r}: one side is more than {times}"
            return 413, replace(image, pixels=None, error=reason)
        return 200, image
