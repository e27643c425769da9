"""The job of culling: that of scoring, whose parts hold sights, and which ends with the moments.

Scoring is shared by processes and goes on where it was interrupted, as that of `qfm score` does.
One process then compares the photos of each moment; what it has compared is kept in the job's
folder (`compared.jsonl`) until the table is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from qfm_iqm.culling.cull import Progress, cull
from qfm_iqm.culling.row import CULL_SCHEMA, CullRow, read_cull
from qfm_iqm.culling.sights import Sight, SightScorer
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.row import ScoreRow, schema_of, write_rows

SIGHT_SCHEMA = schema_of(Sight)


class CullJob(Job):
    """Scores and culls photos into one table.

    Args:
        out: the table: .csv, .jsonl or .parquet.
        files: what to cull. Files of an earlier run keep their places, and new ones come after.
        scorer: scores them.
        resume: go on with what an earlier run left, or join one that is running.
        gap: see `cull.cull`.
        progress: see `cull.cull`.

    Attributes:
        rows: of the table, once it is written; else empty.

    Raises:
        QFMError: there is an unfinished job and `resume` is not set, or it is one of another model
            or of other settings.
        TableError: the place cannot be written to.
    """

    columns = tuple(SIGHT_SCHEMA)

    def __init__(
        self,
        out: Path,
        files: Sequence[str],
        scorer: SightScorer,
        *,
        resume: bool,
        gap: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(out, files, scorer, resume=resume)
        self.rows: Sequence[CullRow] = ()
        self._gap = gap
        self._progress = progress

    def read_part(self, path: Path) -> Sequence[Sight]:
        """See `Job.read_part`."""
        return [Sight(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]

    def write_part(self, rows: Sequence[ScoreRow], path: Path) -> None:
        """See `Job.write_part`."""
        write_rows(rows, path, SIGHT_SCHEMA)

    def write_table(self, rows: Iterable[ScoreRow]) -> None:
        """Finds and ranks the moments, and writes the table."""
        self.rows = cull(
            cast("list[Sight]", list(rows)),
            self.scorer,
            gap=self._gap,
            record=self.folder / "compared.jsonl",
            progress=self._progress,
        )
        write_rows(self.rows, self.out, CULL_SCHEMA)

    def read_table(self) -> Sequence[CullRow]:
        """See `Job.read_table`."""
        self.rows = read_cull(self.out)  # another process has written it
        return self.rows

    def known(self, files: Sequence[str]) -> list[ScoreRow]:
        """None: a table of moments does not hold what finding them takes."""
        return []
