"""Ctrl-C before a command has written anything: one sentence, and the exit code for it."""

import os
import pty
import re
import signal
import subprocess
from contextlib import suppress

import pytest

from qfm_iqm.scoring.job import Job
from qfm_iqm.scoring.job_folder import folder_of
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.scoring.scorer import Scorer

from .conftest import ENVIRONMENT, QFM, listen_to_ctrl_c

NOTHING = b"Interrupted: nothing was written.\n"


def test_it_is_heeded_while_modules_are_imported(photo_folder, tmp_path):
    """The process interrupts itself in a module that the command line imports."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    process = subprocess.run(
        [*QFM, "score", photo_folder],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        preexec_fn=listen_to_ctrl_c,
        timeout=120,
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, b"", NOTHING)


def test_it_is_an_exit_code_also_where_generated_code_is_run(photo_folder, tmp_path):
    """Otherwise Python would die from the signal."""
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(99): pass"
    (tmp_path / "typer.py").write_text(f"exec({code!r})\n")
    process = subprocess.run(
        [*QFM, "info"],
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        preexec_fn=listen_to_ctrl_c,
        timeout=120,
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, b"", NOTHING)


@pytest.mark.parametrize(
    "line",
    [
        "gate PHOTOS --min 1 --baseline pipe.csv --max-drop 1",
        "report pipe.csv --out page.html",
        "score --list pipe.csv --out scores.csv",
        "cull --list pipe.csv --out culled.csv",
        "evaluate pipe.csv --out figures.csv",
    ],
)
def test_it_is_one_sentence_before_work_begins(start, photo_folder, tmp_path, line):
    os.mkfifo(tmp_path / "pipe.csv")
    words = [str(photo_folder) if word == "PHOTOS" else word for word in line.split()]
    process = start(*words, cwd=tmp_path)
    with (tmp_path / "pipe.csv").open("w"):  # opens when the command reads from it
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, out, errors) == (130, b"", NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]


def test_a_job_without_rows_promises_none(start, photo_folder, tiny_model_folder, tmp_path):
    """The test holds the lock of the job's only shard, so the command waits for its rows."""
    photo, out = str(photo_folder / "photo_05.png"), tmp_path / "scores.csv"
    scorer = Scorer(str(tiny_model_folder), max_pixels=250_000_000)
    Job(out, [photo], scorer, resume=False).close()
    lock = LockFile(folder_of(out) / "lock")
    assert lock.try_acquire(0)
    ours, theirs = pty.openpty()  # its progress bar shows that it has started
    process = start(
        "score", photo, "-m", tiny_model_folder, "--out", out, "--resume", stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # raised when the terminal's other side is closed
        while piece := os.read(ours, 65536):
            if b"0/1" not in shown and b"0/1" in shown + piece:
                process.send_signal(signal.SIGINT)
            shown += piece
    assert process.wait(timeout=120) == 130
    os.close(ours)
    process.stdout.close()
    lock.close()
    said = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode().split("Interrupted: ")[1]
    assert " ".join(said.split()) == (
        "1 image was not scored. Continue with the same command and --resume."
    )
