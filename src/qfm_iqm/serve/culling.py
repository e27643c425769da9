"""Groups the photos of a request into moments and ranks them there, as `qfm cull` does.

Photos are scored together with those of other requests. Then a thread compares the photos of each
moment, which are decoded again at native resolution, one at a time, by the same processes. There
are as many such threads as processes, which bounds the memory of all requests.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from qfm_iqm.culling.comparison import compared
from qfm_iqm.culling.cull import cull
from qfm_iqm.culling.row import CullRow
from qfm_iqm.culling.sights import Sight
from qfm_iqm.image.load import Reading
from qfm_iqm.serve.receiving import Upload
from qfm_iqm.serve.scoring import ScoringService


class CullingService:
    """Culls the photos of requests.

    Args:
        scoring: decodes and scores the photos; must be closed after this service.
    """

    def __init__(self, scoring: ScoringService) -> None:
        self._scoring = scoring
        self._threads = ThreadPoolExecutor(scoring.limits.workers, thread_name_prefix="compare")

    def close(self) -> None:
        """Stops when all running requests are done."""
        self._threads.shutdown()

    async def cull(
        self, uploads: Sequence[Upload], *, gap: float | None = None
    ) -> list[tuple[int, CullRow]]:
        """The rows of photos, with the HTTP code that each would have alone.

        Args:
            uploads: the photos; rows have their names as paths.
            gap: see `culling.cull.cull`.

        Returns:
            Moments in order of time, their photos by rank; photos without a score come last.
        """
        scored = await asyncio.gather(*map(self._scoring.sight, uploads))
        ranked = partial(self._ranked, uploads, [sight for _, sight in scored], gap)
        rows = await asyncio.get_running_loop().run_in_executor(self._threads, ranked)
        failed = [code for code, sight in scored if sight.score is None]
        return list(zip([200] * (len(rows) - len(failed)) + failed, rows, strict=True))

    def _ranked(
        self, uploads: Sequence[Upload], sights: Sequence[Sight], gap: float | None
    ) -> list[CullRow]:
        # By hash, because clients may give several photos the same name.
        contents = {
            sight.sha256: upload.content for sight, upload in zip(sights, uploads, strict=True)
        }

        def reread(asked: Iterable[Sight]) -> Iterator[Reading]:
            return (self._scoring.native(sight.path, contents[sight.sha256]) for sight in asked)

        label = self._scoring.model.card.label.shown
        return cull(sights, label, partial(compared, reread=reread), gap=gap)
