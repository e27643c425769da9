"""A resumable scoring job: it may be killed at any time and continues when it is run again.

Until the job is done, its rows are in a folder next to the table (`scoring.job_folder`).

Design choices:
* A shard is scored independently, bit for bit (`Scorer.score_groups`). It is the unit of writing,
  of loss by a kill, and of work for a process. The table therefore does not depend on interruptions
  or on the number of processes.
* Locks are system locks, which end with the process in any case. They work between the processes of
  a machine, and on file systems that share such locks between machines.
* At the end the shards are merged in the plan's order, and the folder is removed.
"""

import json
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from qfm_iqm.errors import QFMError, TableError, counted
from qfm_iqm.files import check_output
from qfm_iqm.scoring.job_config import Identity, Outcome, extended, refuse_other
from qfm_iqm.scoring.job_folder import (
    CONFIG_FILE,
    LOCK_FILE,
    folder_of,
    kept_so_far,
    read_plan,
    shard_file,
    write_plan,
    writing_job,
)
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.scoring.row import COLUMNS, ENDINGS, ScoreRow, write_rows
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows
from qfm_iqm.scoring.video import FrameScore, read_frames, write_frames

_PLANNING = 1 << 40  # this byte of the lock: reading or changing the plan, and merging
_POLL = 0.2  # seconds


class Job:
    """Scores files into one table.

    Args:
        out: the table: .csv, .jsonl or .parquet.
        files: files to score. Files of an earlier run keep their order; new ones follow.
        scorer: the scorer.
        resume: continue an earlier run, or join one that is running.

    Attributes:
        kept: number of files that already had rows.
        left: number of files that had no row when the job was opened.
        columns: columns of the rows.

    Raises:
        QFMError: there is an unfinished job and `resume` is False, or the job has another model or
            other settings.
        TableError: the table or the folder cannot be written.
    """

    columns: Sequence[str] = COLUMNS

    def __init__(self, out: Path, files: Sequence[str], scorer: Scorer, *, resume: bool) -> None:
        check_output(out, *ENDINGS)
        if out.exists() and not out.is_file():
            raise TableError(
                f"'{out}' cannot be written: it is a pipe or a device, which cannot be read back "
                "to resume; without --out, rows go to stdout as CSV."
            )
        self.out = out
        self.folder = folder_of(out)
        self.scorer = scorer
        self.identity = Identity.of(scorer)
        with writing_job(self.folder):
            while not self._open(list(dict.fromkeys(files)), resume):
                pass  # another process has just finished the job and removed its folder
        left = [number for number in range(len(self.plan)) if not self._shard(number).exists()]
        self.left = sum(len(self.plan[number]) for number in left)
        self.kept = sum(map(len, self.plan)) - self.left

    def _open(self, files: Sequence[str], resume: bool) -> bool:
        """Creates or opens the job; returns False if it was removed meanwhile."""
        if not self.folder.is_dir():
            self._begin(files, resume)
        elif not resume and self._is_running():
            raise QFMError(
                f"The job {self.folder} is running: join it with --resume, or write elsewhere."
            )
        elif not resume:
            raise QFMError(
                f"There is an unfinished job {self.folder}: continue it with --resume, or remove "
                "it to start over."
            )
        try:
            self.lock = LockFile(self.folder / LOCK_FILE)
        except FileNotFoundError:
            if self.folder.is_dir():
                raise QFMError(f"{self.folder} is not a job of this version: remove it.") from None
            return False
        try:
            with self.lock.held(_PLANNING):
                if self.lock.current():
                    self._check()
                    self.plan = self._planned(files)
                    return True
        except BaseException:
            self.lock.close()
            raise
        self.lock.close()
        return False

    def _is_running(self) -> bool:
        """Whether another process is working on the job."""
        try:
            lock = LockFile(self.folder / LOCK_FILE)
        except FileNotFoundError:
            return False
        running = lock.in_use()
        lock.close()
        return running

    def run(self) -> Iterator[ScoreRow]:
        """Scores the missing shards, shared with other processes of the same job.

        Yields:
            The rows that this process has scored, once they are on disk.

        Raises:
            TableError: the rows cannot be written.
        """
        # Shards of other processes are left to them, unless these ended without finishing.
        while missing := self._missing() or self._added():
            if any(self._is_free(number) for number in missing):
                yield from self._run(missing)
            else:
                time.sleep(_POLL)

    def _run(self, numbers: Iterable[int]) -> Iterator[ScoreRow]:
        taken: list[int] = []
        frames: list[FrameScore] = []
        self.scorer.frames = frames.append

        def groups() -> Iterator[Sequence[str]]:
            for number in numbers:
                if self.plan[number] and self._take(number):
                    taken.append(number)
                    yield self.plan[number]

        try:
            for rows in self.scorer.score_groups(groups()):
                if not self.lock.current():
                    raise QFMError(f"The job {self.folder} was removed while it was running.")
                self._write(rows, frames, taken[0])
                frames.clear()
                self.lock.release(taken.pop(0))
                yield from rows
        finally:
            for number in taken:
                self.lock.release(number)

    def _write(self, rows: list[ScoreRow], frames: list[FrameScore], number: int) -> None:
        try:
            if frames:
                write_frames(frames, self._shard(number).with_suffix(".csv"))
            self.write_shard(rows, self._shard(number))
        except TableError as error:
            raise TableError(f"{error}{kept_so_far(self.folder)}") from error

    def _is_free(self, number: int) -> bool:
        free = self._take(number)
        if free:
            self.lock.release(number)
        return free

    def _take(self, number: int) -> bool:
        """Locks a shard for scoring; False if it is done or another process has it."""
        if self._shard(number).exists() or not self.lock.try_acquire(number):
            return False
        if self._shard(number).exists() or not self.lock.current():  # done meanwhile
            self.lock.release(number)
            return False
        return True

    def _missing(self) -> list[int]:
        """Shards without rows; none if another process has finished the job."""
        if not self.lock.current():
            return []
        return [n for n, shard in enumerate(self.plan) if shard and not self._shard(n).exists()]

    def _added(self) -> list[int]:
        """Shards without rows, also of files that other processes have added to the plan."""
        with self.lock.held(_PLANNING):
            return self._read_plan()

    def _read_plan(self) -> list[int]:
        """See `_added`; the caller holds the lock of the plan."""
        before = len(self.plan)
        if self.lock.current():
            self.plan = self._planned(())
        self.left += sum(map(len, self.plan[before:]))
        return self._missing()

    def finish(self, frames: Path | None = None) -> Outcome:
        """Writes the table and removes the folder.

        Args:
            frames: file for the table of video frames; None writes none.

        Raises:
            QFMError: another process has finished the job without some of these files.
            TableError: the table cannot be written; the folder is kept.
        """
        outcome = Outcome()
        while not self._merged(outcome, frames):
            for _ in self.run():
                pass
        self.close()
        return outcome

    def _merged(self, outcome: Outcome, frames: Path | None) -> bool:
        """Finishes the job; False if another process has added files that have no rows yet."""
        with self.lock.held(_PLANNING):
            if self._read_plan():
                return False
            if self.lock.current():
                rows = (row for n in range(len(self.plan)) for row in self._rows_of(n))
                if frames is not None:
                    write_frames(self._frames(), frames)
                self.write_table(outcome.counting(rows))
                # Renamed first: a kill leaves either the whole folder or a hidden remainder.
                remains = self.folder.with_name(f".{self.folder.name}.done")
                shutil.rmtree(remains, ignore_errors=True)
                self.folder.rename(remains)
                shutil.rmtree(remains, ignore_errors=True)
                return True
        # Another process has done it. Parquet holds paths that are not valid text escaped.
        there = {_escaped(row.path) for row in outcome.counting(self.read_table())}
        lost = {_escaped(file) for shard in self.plan for file in shard} - there
        if lost:
            raise QFMError(
                f"The job {self.folder} was finished without {counted(len(lost), 'file')}: "
                "continue with --resume."
            )
        return True

    def close(self) -> None:
        """Releases the job, finished or not."""
        self.lock.close()

    # ---- overridden by jobs with other rows ----

    def write_shard(self, rows: Sequence[ScoreRow], path: Path) -> None:
        """Writes the rows of a shard."""
        write_rows(rows, path)

    def read_shard(self, path: Path) -> Sequence[ScoreRow]:
        """The rows of a shard."""
        return read_rows(path)

    def write_table(self, rows: Iterable[ScoreRow]) -> None:
        """Writes the table of all rows."""
        write_rows(rows, self.out)

    def read_table(self) -> Sequence[ScoreRow]:
        """The rows of the table."""
        return read_rows(self.out)

    def known(self, files: Sequence[str]) -> list[ScoreRow]:
        """Reusable rows of an earlier table: those of other files, and valid ones of these files.

        Raises:
            QFMError: the table has rows of another model, runtime or precision.
        """
        wanted = set(files)
        rows = {row.path: row for row in read_rows(self.out)}
        for row in rows.values():
            if other := self.identity.differs(row):
                raise QFMError(f"{self.out} {other}: write to another table, or omit --resume.")
        # Videos are scored again, because the table of their frames is unknown.
        return [
            row
            for path, row in rows.items()
            if path not in wanted or (self.identity.wrote(row) and row.frames is None)
        ]

    # ---- the folder ----

    def _shard(self, number: int) -> Path:
        return shard_file(self.folder, number)

    def _rows_of(self, number: int) -> Sequence[ScoreRow]:
        return self.read_shard(self._shard(number)) if self.plan[number] else []

    def _frames(self) -> Iterator[FrameScore]:
        """Yields the frames of all videos, in the plan's order."""
        for number in range(len(self.plan)):
            path = self._shard(number).with_suffix(".csv")
            if path.exists():
                yield from read_frames(path)

    def _begin(self, files: Sequence[str], resume: bool) -> None:
        """Creates the folder atomically."""
        known = self.known(files) if resume and self.out.exists() else []
        plan = extended([[row.path for row in known]] if known else [], files)
        made = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}")
        made.mkdir()
        try:
            (made / "shards").mkdir()
            (made / LOCK_FILE).touch()
            (made / CONFIG_FILE).write_text(
                json.dumps({"columns": list(self.columns), **asdict(self.identity)}, indent=1)
            )
            write_plan(plan, made)
            if known:
                self.write_shard(known, shard_file(made, 0))
            try:
                made.rename(self.folder)
            except OSError:
                if not self.folder.is_dir():
                    raise
                if not resume:  # another process was faster
                    raise QFMError(f"Another process is working on {self.out}.") from None
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _check(self) -> None:
        """Refuses to resume a job with other settings."""
        try:
            found = dict(json.loads((self.folder / CONFIG_FILE).read_text()))
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise QFMError(f"{self.folder} is not a job of this version: remove it.") from error
        ours = {"columns": list(self.columns), **asdict(self.identity)}
        refuse_other(found, ours, self.folder)

    def _planned(self, files: Sequence[str]) -> list[list[str]]:
        """The plan, extended by files that are not in it yet."""
        before = read_plan(self.folder)
        plan = extended(before, files)
        if plan != before:
            write_plan(plan, self.folder)
        return plan


def _escaped(path: str) -> bytes:
    return path.encode("utf-8", "backslashreplace")
