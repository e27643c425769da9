"""The culling job: a scoring job whose shards hold sights, followed by finding moments.

Scoring is shared by processes and resumable, as in `qfm score`. Then one process compares the
photos of each moment, and records the results in the job's folder (`compared.jsonl`).

Moments cannot be recomputed from the table, which says which photos are similar but not how much.
Sights and comparisons are therefore kept next to a complete table in `cull.csv.resume/`, so that
`--resume` need not read and score photos again, even if photos were added or removed or `--gap` is
changed.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from qfm_iqm import __version__
from qfm_iqm.arrays import Doubles
from qfm_iqm.culling.comparison import compared, rereading
from qfm_iqm.culling.cull import cull
from qfm_iqm.culling.row import CULL_SCHEMA, CullRow
from qfm_iqm.culling.sights import Sight, SightScorer
from qfm_iqm.files import copy_whole, write_whole, writing
from qfm_iqm.image.fetch import is_url
from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.job_folder import read_plan
from qfm_iqm.scoring.row import ScoreRow, schema_of, write_rows
from qfm_iqm.scoring.table import read_rows_of

Progress = Callable[[Iterator[Doubles], int], Iterator[Doubles]]

SIGHT_SCHEMA = schema_of(Sight)
_SIGHTS, _COMPARED, _JOB = "sights.jsonl", "compared.jsonl", "job.json"


class CullJob(Job):
    """Scores and culls photos into one table; other arguments and errors are those of `Job`.

    Args:
        gap: see `cull.cull`.
        progress: wraps the iterator over measures of moments; also gets their number.

    Attributes:
        rows: rows of the table, once it is written; else empty.
        gone: photos of an earlier table that are neither among the files nor exist any more, and
            are therefore left out.

    Raises:
        TableError: also if the table to continue is not one of culling.
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
        self.gone: list[str] = []
        super().__init__(out, files, scorer, resume=resume)
        self.rows: Sequence[CullRow] = ()
        self._resume = resume
        self._gap = gap
        self._progress = progress

    @property
    def kept_folder(self) -> Path:
        """The folder with the sights and comparisons of a complete table."""
        return self.out.with_name(self.out.name + ".resume")

    def read_shard(self, path: Path) -> Sequence[Sight]:
        """See `Job.read_shard`."""
        return [Sight(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]

    def write_shard(self, rows: Sequence[ScoreRow], path: Path) -> None:
        """See `Job.write_shard`."""
        write_rows(rows, path, SIGHT_SCHEMA)

    def write_table(self, rows: Iterable[ScoreRow]) -> None:
        """Finds and ranks the moments; writes the table and the folder for resuming."""
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
        """Writes the folder for resuming."""
        with writing(self.kept_folder):
            self.kept_folder.mkdir(exist_ok=True)
        write_rows(sights, self.kept_folder / _SIGHTS, SIGHT_SCHEMA)
        if record.exists():
            copy_whole(record, self.kept_folder / _COMPARED)
        else:
            write_whole("", self.kept_folder / _COMPARED)
        write_whole(json.dumps(self._depends_on(), indent=1), self.kept_folder / _JOB)

    def _depends_on(self) -> dict[str, Any]:
        """The settings that sights and comparisons depend on, besides the files."""
        return {"version": __version__, **asdict(self.identity)}

    def _is_ours(self) -> bool:
        """Whether the kept folder is valid for this job."""
        try:
            found: object = json.loads((self.kept_folder / _JOB).read_text())
        except (OSError, ValueError):
            return False
        return found == self._depends_on()

    def read_table(self) -> Sequence[CullRow]:
        """See `Job.read_table`."""
        self.rows = read_rows_of(self.out, CullRow, CULL_SCHEMA)  # another process has written it
        return self.rows

    def _begin(self, files: Sequence[str], resume: bool) -> None:
        """See `Job._begin`; photos of an earlier table are culled again while they exist."""
        if resume and self.out.exists():
            paths = [row.path for row in read_rows_of(self.out, CullRow, CULL_SCHEMA)]
            there = {path for path in paths if is_url(path) or Path(path).exists()} | set(files)
            self.gone = [path for path in paths if path not in there]
            files = [*filter(there.__contains__, paths), *files]
        super()._begin(_distinct(files), resume)

    def _planned(self, files: Sequence[str]) -> list[list[str]]:
        """See `Job._planned`."""
        before = [path for shard in read_plan(self.folder) for path in shard]
        return super()._planned(_distinct([*before, *files]))

    def known(self, files: Sequence[str]) -> list[ScoreRow]:
        """Reusable sights of these files from an earlier table."""
        if not self._is_ours():
            return []
        wanted = set(files)
        try:
            sights = self.read_shard(self.kept_folder / _SIGHTS)
        except (OSError, ValueError, TypeError):  # damaged
            return []
        rows = {row.path: row for row in sights if self.identity.wrote(row)}
        return [row for path, row in rows.items() if path in wanted]


def _distinct(files: Iterable[str]) -> list[str]:
    """Files by their first name: a photo must not be rejected as a duplicate of itself."""
    named: dict[str, str] = {}
    for file in files:
        named.setdefault(file if is_url(file) else os.path.realpath(file), file)
    return list(named.values())
