"""The job of culling: that of scoring, whose shards hold sights, and which ends with the moments.

Scoring is shared by processes and goes on where it was interrupted, as that of `qfm score` does.
One process then compares the photos of each moment; what it has compared is kept in the job's
folder (`compared.jsonl`).

Moments cannot be found again from the table: of which photos it tells that they are alike, not how
much. So sights and comparisons stay when the table is complete, beside it in `cull.csv.resume/`.
There `--resume` finds all that it does not have to read and score again, whatever photos have come
or gone, and whatever `--gap` is asked for.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from qfm_iqm import __version__
from qfm_iqm.arrays import Doubles
from qfm_iqm.culling.comparison import compared, rereading
from qfm_iqm.culling.cull import cull
from qfm_iqm.culling.row import CULL_SCHEMA, CullRow, read_cull
from qfm_iqm.culling.sights import Sight, SightScorer
from qfm_iqm.errors import TableError
from qfm_iqm.files import copy_whole, write_whole
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.row import ScoreRow, schema_of, write_rows

Progress = Callable[[Iterator[Doubles], int], Iterator[Doubles]]

SIGHT_SCHEMA = schema_of(Sight)
_SIGHTS, _COMPARED, _JOB = "sights.jsonl", "compared.jsonl", "job.json"


class CullJob(Job):
    """Scores and culls photos into one table.

    Args:
        out: the table: .csv, .jsonl or .parquet.
        files: what to cull. Files of an earlier run keep their places, and new ones come after.
        scorer: scores them.
        resume: go on with what an earlier run left, or join one that is running.
        gap: see `cull.cull`.
        progress: wraps the measures of moments as they come, given how many there will be.

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
        self._resume = resume
        self._gap = gap
        self._progress = progress

    @property
    def kept_folder(self) -> Path:
        """Where sights and comparisons of a complete table are."""
        return self.out.with_name(self.out.name + ".resume")

    def read_shard(self, path: Path) -> Sequence[Sight]:
        """See `Job.read_shard`."""
        return [Sight(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]

    def write_shard(self, rows: Sequence[ScoreRow], path: Path) -> None:
        """See `Job.write_shard`."""
        write_rows(rows, path, SIGHT_SCHEMA)

    def write_table(self, rows: Iterable[ScoreRow]) -> None:
        """Finds and ranks the moments, and writes the table and what stays beside it."""
        sights = cast("list[Sight]", list(rows))
        record, earlier = self.folder / _COMPARED, self.kept_folder / _COMPARED
        if self._resume and not record.exists() and earlier.exists() and self._is_ours():
            shutil.copy(earlier, record)

        def compare(moments: Sequence[Sequence[Sight]]) -> Iterator[Doubles]:
            coming = compared(moments, rereading(self.scorer), record)
            return coming if self._progress is None else self._progress(coming, len(moments))

        label = self.scorer.runtime.card.label.shown
        self.rows = cull(sights, label, compare, gap=self._gap)
        self._keep(sights, record)
        write_rows(self.rows, self.out, CULL_SCHEMA)

    def _keep(self, sights: Sequence[Sight], record: Path) -> None:
        """Writes what stays beside the table."""
        try:
            self.kept_folder.mkdir(exist_ok=True)
        except OSError as error:
            raise TableError(f"{self.kept_folder} cannot be written: {error.strerror}.") from error
        write_rows(sights, self.kept_folder / _SIGHTS, SIGHT_SCHEMA)
        if record.exists():
            copy_whole(record, self.kept_folder / _COMPARED)
        else:
            write_whole("", self.kept_folder / _COMPARED)
        write_whole(json.dumps(self._depends_on(), indent=1), self.kept_folder / _JOB)

    def _depends_on(self) -> dict[str, Any]:
        """What sights and comparisons depend on, apart from the files."""
        return {"version": __version__, **asdict(self.identity)}

    def _is_ours(self) -> bool:
        """Whether what stays beside the table is what this job would find."""
        try:
            found: object = json.loads((self.kept_folder / _JOB).read_text())
        except (OSError, ValueError):
            return False
        return found == self._depends_on()

    def read_table(self) -> Sequence[CullRow]:
        """See `Job.read_table`."""
        self.rows = read_cull(self.out)  # another process has written it
        return self.rows

    def known(self, files: Sequence[str]) -> list[ScoreRow]:
        """Sights of an earlier table of that name that hold for these files."""
        if not self._is_ours():
            return []
        wanted = set(files)
        try:
            sights = self.read_shard(self.kept_folder / _SIGHTS)
        except (OSError, ValueError, TypeError):  # damaged
            return []
        rows = {row.path: row for row in sights if self.identity.wrote(row)}
        return [row for path, row in rows.items() if path in wanted]
