"""The test ledger: one row for each look at a test split, appended and never rewritten.

A test split measures what was chosen elsewhere only while nobody chooses by it. The ledger says how
often it was looked at, by which model, and why: `qfm evaluate` of the test split and the final test
of every training append to it. Decisions cite validation.

Its place: QFM_TEST_LEDGER where that is set; else `benchmarks/results/test_ledger.csv` under the
current folder if that file is there, as in a checkout of this project; else `test_ledger.csv`
beside the results file or the run's folder.
"""

import csv
import io
import os
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import qfm_iqm
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.card import ModelCard
from qfm_iqm.text_tables import guarded

NAME = "test_ledger.csv"
_PROJECT = Path("benchmarks/results") / NAME


class Look(NamedTuple):
    """A look at a test split: figures of all its images, and what they were for.

    Attributes:
        date: of the day, UTC.
        commit: of this package's code, with `-dirty` if it was changed; else its version.
        data: what the model was trained on, in its card's words.
    """

    date: str
    commit: str
    model: str
    weights_sha256: str
    data: str
    split_sha256: str
    images: int
    srcc: float | None
    plcc: float | None
    why: str


def record_look(evaluation: Evaluation, card: ModelCard, beside: Path, why: str) -> Path:
    """Appends a row for the evaluation of a test split, and returns the ledger's place.

    Args:
        evaluation: of the whole test split.
        card: of the model.
        beside: a file or folder; the ledger lies beside it, unless the rule above says otherwise.
        why: what the look was for.

    Raises:
        TableError: the ledger cannot be written to.
    """
    srcc, plcc = (evaluation.row("whole", metric) for metric in ("srcc", "plcc"))
    look = Look(
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        model=card.name,
        weights_sha256=card.weights_sha256,
        data=str(card.training.get("data", "")),
        split_sha256=str(card.training.get("split_sha256", "")),
        images=srcc.n,
        srcc=srcc.value,
        plcc=plcc.value,
        why=why,
    )
    path = ledger_path(beside)
    append_look(path, look)
    return path


def ledger_path(beside: Path) -> Path:
    """The ledger's place for results that lie at `beside`; see the rule above."""
    if named := os.environ.get("QFM_TEST_LEDGER"):
        return Path(named)
    return _PROJECT if _PROJECT.is_file() else beside.parent / NAME


def append_look(path: Path, look: Look) -> None:
    """Appends a row in one write, under a lock; writes the header first where there is no ledger.

    Raises:
        TableError: the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            with suppress(ModuleNotFoundError):  # a system without POSIX locks appends all the same
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            rows = io.StringIO(newline="")
            writer = csv.writer(rows, lineterminator="\n")
            if not size:
                writer.writerow(Look._fields)
            elif not path.read_bytes().endswith(b"\n"):  # what a kill left of a row stays apart
                rows.write("\n")
            writer.writerow(map(guarded, look))
            file.write(rows.getvalue().encode())
    except OSError as error:
        raise TableError(f"The ledger {path} cannot be written: {error.strerror}.") from error


def _commit() -> str:
    """The commit of this package's code where it lies in a checkout, else its version."""
    folder = Path(qfm_iqm.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    if (folder.parents[1] / "pyproject.toml").is_file():
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [*command, "--exclude=*"], capture_output=True, text=True, check=True, timeout=30
            )
            return done.stdout.strip()
    return version("qfm-iqm")
