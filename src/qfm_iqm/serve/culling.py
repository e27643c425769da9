"""The photos of a request put into moments and ranked there, as by `qfm cull`.

They are scored with everybody else's. Then a thread compares those that share a moment: it has them
decoded once more, at native resolution, one at a time and in the same processes. There are as many
such threads as processes, which bounds the memory of all requests.
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
        scoring: decodes and scores them; closed by others, after this.
    """

    def __init__(self, scoring: ScoringService) -> None:
        self._scoring = scoring
        self._threads = ThreadPoolExecutor(scoring.limits.workers, thread_name_prefix="compare")

    def close(self) -> None:
        """Stops, when all that was begun is done."""
        self._threads.shutdown()

    async def cull(
        self, uploads: Sequence[Upload], *, gap: float | None = None
    ) -> list[tuple[int, CullRow]]:
        """The rows of photos, and the HTTP code that each would have alone.

        Args:
            uploads: the photos; rows have their names for paths.
            gap: see `culling.cull.cull`.

        Returns:
            Moments in the order of time, their photos by rank; at the end those without a score.
        """
        scored = await asyncio.gather(*map(self._scoring.sight, uploads))
        ranked = partial(self._ranked, uploads, [sight for _, sight in scored], gap)
        rows = await asyncio.get_running_loop().run_in_executor(self._threads, ranked)
        failed = [code for code, sight in scored if sight.score is None]
        return list(zip([200] * (len(rows) - len(failed)) + failed, rows, strict=True))

    def _ranked(
        self, uploads: Sequence[Upload], sights: Sequence[Sight], gap: float | None
    ) -> list[CullRow]:
        # By hash, as clients may give several photos one name.
        contents = {
            sight.sha256: upload.content for sight, upload in zip(sights, uploads, strict=True)
        }

        def reread(asked: Iterable[Sight]) -> Iterator[Reading]:
            return (self._scoring.native(sight.path, contents[sight.sha256]) for sight in asked)

        label = self._scoring.model.card.label.shown
        return cull(sights, label, partial(compared, reread=reread), gap=gap)
