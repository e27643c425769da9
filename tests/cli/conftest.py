"""Two ways to call `qfm`: in this process, which is quick, and in its own process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qfm_iqm.cli.main import main

QFM = [str(Path(sys.executable).with_name("qfm"))]
# As on most machines: strict UTF-8, and buffered output to pipes. One thread, for tiny networks.
ENVIRONMENT = {
    "PYTHONIOENCODING": "utf-8:strict",
    "PYTHONUNBUFFERED": "",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
}


def listen_to_ctrl_c() -> None:
    """A job in the background of a script ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def qfm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """`qfm("score", path, ...)` in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["qfm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Answer(left.value.code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Starts `qfm` as a process with pipes; options are those of Popen."""

    def begin(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [*QFM, *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        ours = {"env": os.environ | ENVIRONMENT, "preexec_fn": listen_to_ctrl_c}
        return subprocess.Popen(command, **(pipes | ours | options))

    return begin
