"""The test ledger: one row per evaluation on a test split, appended and never rewritten.

A test split is unbiased only as long as nothing is selected by it. The ledger records how often it
was used, by which model, and why: `qfm evaluate` on the test split and the final test of every
training append to it. Decisions should be based on validation.

Its path is QFM_TEST_LEDGER if that is set; else `benchmarks/results/test_ledger.csv` in the current
folder if that file exists, as in a checkout of this project; else `test_ledger.csv` next to the
results file or the run's folder.
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
from qfm_iqm.files import writing
from qfm_iqm.metrics.evaluation import Evaluation
from qfm_iqm.model.card import ModelCard
from qfm_iqm.text_tables import guarded

NAME = "test_ledger.csv"
_PROJECT = Path("benchmarks/results") / NAME


class Look(NamedTuple):
    """One evaluation on a whole test split, and its purpose.

    Attributes:
        date: date in UTC.
        commit: commit of this package's code, with `-dirty` if it was changed; else its version.
        data: the model's training data, as in its card.
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
    """Appends a row for an evaluation on a test split, and returns the ledger's path.

    Args:
        evaluation: evaluation on the whole test split.
        card: the model's card.
        beside: a file or folder that the ledger is next to, unless the rule above differs.
        why: purpose of the evaluation.

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
    """The ledger's path for results at `beside`; see the rule above."""
    if named := os.environ.get("QFM_TEST_LEDGER"):
        return Path(named)
    return _PROJECT if _PROJECT.is_file() else beside.parent / NAME


def append_look(path: Path, look: Look) -> None:
    """Appends a row in one write, under a lock; a new ledger first gets a header.

    Raises:
        TableError: the ledger cannot be written to.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            with suppress(ModuleNotFoundError):  # no lock on systems without POSIX locks
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            rows = io.StringIO(newline="")
            writer = csv.writer(rows, lineterminator="\n")
            if not size:
                writer.writerow(Look._fields)
            elif not path.read_bytes().endswith(b"\n"):  # end a row that a kill left incomplete
                rows.write("\n")
            writer.writerow(map(guarded, look))
            file.write(rows.getvalue().encode())


def _commit() -> str:
    """The commit of this package's code if it is a checkout, else its version."""
    folder = Path(qfm_iqm.__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    if (folder.parents[1] / "pyproject.toml").is_file():
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [*command, "--exclude=*"], capture_output=True, text=True, check=True, timeout=30
            )
            return done.stdout.strip()
    return version("qfm-iqm")
