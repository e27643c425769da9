"""The folder of a scoring job: its plan, and the rows and frames that are done.

For the table `scores.csv`:

    scores.csv.job/
        job.json        what the rows depend on: model, runtime, how files are read
        plan.jsonl      the files, one list per line; each line is a shard
        shards/N.jsonl  the rows of shard N, written atomically
        shards/N.csv    the frames of its videos, if any; written before its rows
        lock            the process that scores shard N locks byte N
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qfm_iqm.errors import TableError
from qfm_iqm.files import write_whole

LOCK_FILE, CONFIG_FILE = "lock", "job.json"
_PLAN_FILE = "plan.jsonl"


def folder_of(out: Path) -> Path:
    """The folder of a table's job."""
    return out.with_name(out.name + ".job")


def holds_rows(folder: Path) -> bool:
    """Whether a job's folder holds the rows of any shard."""
    return any((folder / "shards").glob("[0-9]*.jsonl"))


def shard_file(folder: Path, number: int) -> Path:
    """The file of a shard's rows."""
    return folder / "shards" / f"{number:06d}.jsonl"


def read_plan(folder: Path) -> list[list[str]]:
    """The files of each shard."""
    return [json.loads(line) for line in (folder / _PLAN_FILE).read_text("ascii").splitlines()]


def write_plan(plan: list[list[str]], folder: Path) -> None:
    """Writes the files of each shard."""
    write_whole("".join(json.dumps(shard) + "\n" for shard in plan), folder / _PLAN_FILE)


@contextmanager
def writing_job(folder: Path) -> Iterator[None]:
    """Turns an OSError from writing the job's folder into a one-sentence TableError."""
    try:
        yield
    except OSError as error:
        raise TableError(
            f"The job {folder} cannot be written: {error.strerror}.{kept_so_far(folder)}"
        ) from error


def kept_so_far(folder: Path) -> str:
    """A sentence for errors, if the job holds rows; else nothing."""
    return " The scores so far are kept: continue with --resume." if holds_rows(folder) else ""
