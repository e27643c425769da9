"""A job of scoring that outlives whatever ends it: killed at any moment and run again, it goes on.

Beside the table that is to be written, `scores.csv`, lies a folder while the job is not done:

    scores.csv.job/
        job.json        what the rows depend on: the model, its runtime, how files are read
        plan.jsonl      the files, one list a line: each line is a shard
        shards/N.jsonl  the rows of shard N, written whole or not at all
        shards/N.csv    the frames of its videos, if it has any; written before its rows
        lock            byte N is locked by the process that is scoring shard N

Design choices:
* A shard is scored by itself, to the bit (`Scorer.score_groups`), and is the unit of everything:
  what is written, what is lost by a kill, what a process takes on. So the table does not depend
  on how often and when the job was interrupted, nor on how many processes shared it.
* Locks are those of the system: they end with the process, however that ends. They work between
  the processes of one machine, and on file systems that share such locks between machines.
* At the end the shards are put together in the plan's order, and the folder goes.
"""

import json
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.files import check_output, write_whole
from qfm_iqm.scoring.job_config import Identity, Outcome
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.scoring.row import COLUMNS, ENDINGS, ScoreRow, write_rows
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.table import read_rows
from qfm_iqm.scoring.video import FrameScore, read_frames, write_frames

SHARD = 128  # files
_PLANNING = 1 << 40  # this byte of the lock: who reads or changes the plan, or merges
_POLL = 0.2  # seconds


def folder_of(out: Path) -> Path:
    """Where the job of a table keeps what it has done so far."""
    return out.with_name(out.name + ".job")


def holds_rows(folder: Path) -> bool:
    """Whether a job's folder keeps the rows of any shard."""
    return any((folder / "shards").glob("[0-9]*.jsonl"))


class Job:
    """Scores files into one table.

    Args:
        out: the table: .csv, .jsonl or .parquet.
        files: what to score. Files of an earlier run keep their places, and new ones come after.
        scorer: scores them.
        resume: go on with what an earlier run left, or join one that is running.

    Attributes:
        kept: files whose rows were there already.
        left: files that had no row when the job was opened.
        columns: of the rows of a shard.

    Raises:
        QFMError: there is an unfinished job and `resume` is not set, or it is one of another model
            or of other settings.
        TableError: the place cannot be written to.
    """

    columns: Sequence[str] = COLUMNS

    def __init__(self, out: Path, files: Sequence[str], scorer: Scorer, *, resume: bool) -> None:
        check_output(out, *ENDINGS)
        if out.exists() and not out.is_file():
            raise TableError(
                f"'{out}' cannot be written: it is a pipe or a device, and a table is read back to "
                "go on with it; without --out, rows go to stdout as CSV."
            )
        self.out = out
        self.folder = folder_of(out)
        self.scorer = scorer
        self.identity = Identity.of(scorer)
        with _writing(self.folder):
            while not self._open(list(dict.fromkeys(files)), resume):
                pass  # another process has just finished the job and removed its folder
        left = [number for number in range(len(self.plan)) if not self._shard(number).exists()]
        self.left = sum(len(self.plan[number]) for number in left)
        self.kept = sum(map(len, self.plan)) - self.left

    def _open(self, files: Sequence[str], resume: bool) -> bool:
        """Makes the job or finds it; False if it went meanwhile."""
        if not self.folder.is_dir():
            self._begin(files, resume)
        elif not resume:
            raise QFMError(
                f"There is an unfinished job {self.folder}: go on with it by --resume, or remove "
                "it to start anew."
            )
        try:
            self.lock = LockFile(self.folder / "lock")
        except FileNotFoundError:
            if self.folder.is_dir():
                raise QFMError(f"{self.folder} is no job of this version: remove it.") from None
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

    def run(self) -> Iterator[ScoreRow]:
        """Scores what is missing, sharing it with other processes on the same job.

        Yields:
            The rows that this process has scored, when they are safe on the disk.

        Raises:
            TableError: the rows cannot be written.
        """
        yield from self._run(range(len(self.plan)))
        # What others had taken is theirs, unless they have ended without finishing it.
        while missing := self._missing():
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
            raise TableError(f"{error}{_kept(self.folder)}") from error

    def _is_free(self, number: int) -> bool:
        free = self._take(number)
        if free:
            self.lock.release(number)
        return free

    def _take(self, number: int) -> bool:
        """Takes a shard on; False where it is done, or another process has it."""
        if self._shard(number).exists() or not self.lock.try_acquire(number):
            return False
        if self._shard(number).exists() or not self.lock.current():  # done in between
            self.lock.release(number)
            return False
        return True

    def _missing(self) -> list[int]:
        """Shards without rows; none when another process has put the table together."""
        if not self.lock.current():
            return []
        return [n for n, shard in enumerate(self.plan) if shard and not self._shard(n).exists()]

    def finish(self, frames: Path | None = None) -> Outcome:
        """Puts the table together and removes the folder.

        Args:
            frames: table of the videos' frames to write; None for none.

        Raises:
            TableError: the table cannot be written; the folder stays.
        """
        outcome = Outcome()
        with self.lock.held(_PLANNING):
            if self.lock.current():
                rows = (row for n in range(len(self.plan)) for row in self._rows_of(n))
                if frames is not None:
                    write_frames(self._frames(), frames)
                self.write_table(outcome.counting(rows))
                # Gone in one step: a kill leaves the whole folder or, hidden, its remains.
                remains = self.folder.with_name(f".{self.folder.name}.done")
                shutil.rmtree(remains, ignore_errors=True)
                self.folder.rename(remains)
                shutil.rmtree(remains, ignore_errors=True)
            else:  # another process has done it
                for _ in outcome.counting(self.read_table()):
                    pass
        self.close()
        return outcome

    def close(self) -> None:
        """Lets go of the job, finished or not."""
        self.lock.close()

    # ---- what a job of other rows does in another way ----

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
        """Rows of an earlier table of that name: of other files, and those that hold for these.

        Raises:
            QFMError: it has rows of another model, runtime or precision.
        """
        wanted = set(files)
        rows = {row.path: row for row in read_rows(self.out)}
        for row in rows.values():
            if other := self.identity.differs(row):
                raise QFMError(f"{self.out} {other}: write to another table, or omit --resume.")
        # A video is scored again: where its frames went is not known.
        return [
            row
            for path, row in rows.items()
            if path not in wanted or (self.identity.wrote(row) and row.frames is None)
        ]

    # ---- the folder ----

    def _shard(self, number: int) -> Path:
        return self.folder / "shards" / f"{number:06d}.jsonl"

    def _rows_of(self, number: int) -> Sequence[ScoreRow]:
        return self.read_shard(self._shard(number)) if self.plan[number] else []

    def _frames(self) -> Iterator[FrameScore]:
        """The frames of all videos, in the plan's order."""
        for number in range(len(self.plan)):
            path = self._shard(number).with_suffix(".csv")
            if path.exists():
                yield from read_frames(path)

    def _begin(self, files: Sequence[str], resume: bool) -> None:
        """Makes the folder, whole or not at all."""
        known = self.known(files) if resume and self.out.exists() else []
        have = {row.path for row in known}
        plan = [[row.path for row in known]] if known else []
        plan += in_parts([file for file in files if file not in have])
        made = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}")
        made.mkdir()
        try:
            (made / "shards").mkdir()
            (made / "lock").touch()
            (made / "job.json").write_text(
                json.dumps({"columns": list(self.columns), **asdict(self.identity)}, indent=1)
            )
            _write_plan(plan, made / "plan.jsonl")
            if known:
                self.write_shard(known, made / "shards" / "000000.jsonl")
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
        """Refuses to go on with a job of other settings."""
        try:
            found = dict(json.loads((self.folder / "job.json").read_text()))
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise QFMError(f"{self.folder} is no job of this version: remove it.") from error
        for name, ours in {"columns": list(self.columns), **asdict(self.identity)}.items():
            if found.get(name) != ours:
                raise QFMError(
                    f"The job {self.folder} was begun with {name} = {found.get(name)}, not {ours}: "
                    "go on with the same, or write to another table."
                )

    def _planned(self, files: Sequence[str]) -> list[list[str]]:
        """The plan, continued by the files that are not in it yet."""
        path = self.folder / "plan.jsonl"
        plan: list[list[str]] = [json.loads(line) for line in path.read_text("ascii").splitlines()]
        have = {file for shard in plan for file in shard}
        new = [file for file in files if file not in have]
        if new:
            plan += in_parts(new)
            _write_plan(plan, path)
        return plan


def in_parts(files: Sequence[str]) -> list[list[str]]:
    """Files in groups of `SHARD`."""
    return [list(files[start : start + SHARD]) for start in range(0, len(files), SHARD)]


def _write_plan(plan: list[list[str]], path: Path) -> None:
    write_whole("".join(json.dumps(shard) + "\n" for shard in plan), path)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Says in one sentence why the job's folder cannot be written to."""
    try:
        yield
    except OSError as error:
        raise TableError(
            f"The job {folder} cannot be written: {error.strerror}.{_kept(folder)}"
        ) from error


def _kept(folder: Path) -> str:
    return " What was scored is kept: go on by --resume." if holds_rows(folder) else ""
