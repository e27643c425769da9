"""`qfm` in its own process without slow imports: forked from a process that has done them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER = """
import json, os, sys
import qfm_iqm.training.benchmark
from qfm_iqm.cli.main import main

for line in sys.stdin:
    job = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        continue
    os.setsid()  # a signal reaches the whole group, reading processes included
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{job['folder']}/{name}", os.O_WRONLY | os.O_CREAT), stream)
    os.environ.update(job["environment"])
    sys.argv = ["qfm", *job["arguments"]]
    exec(job["before"])
    main()
"""


@dataclass
class Forked:
    """A process that was started."""

    pid: int
    folder: Path
    server: subprocess.Popen[str]
    waited: bool = False

    def lives(self) -> bool:
        """Whether it is still running."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self) -> tuple[int, str, str]:
        """Waits for its end; returns exit status, stdout and stderr."""
        code, self.waited = int(self.server.stdout.readline()), True
        out, err = ((self.folder / name).read_text("utf-8") for name in ("out", "err"))
        return code, out, err

    def end(self) -> None:
        """Kills it if a failed test has left it running."""
        if not self.waited:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


class ForkServer:
    """Starts processes one after another; the first start imports all that training needs."""

    def __init__(self) -> None:
        self.server: subprocess.Popen[str] | None = None
        self.last: Forked | None = None

    def start(
        self, *arguments: object, before: str = "", environment: Mapping[str, str] | None = None
    ) -> Forked:
        """Starts `qfm ARGUMENTS`; `before` is code that the process runs first."""
        if self.server is None:
            self.server = subprocess.Popen(
                [sys.executable, "-c", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        if self.last is not None:
            self.last.end()
        folder = Path(tempfile.mkdtemp())
        job = {"folder": str(folder), "before": before, "environment": dict(environment or {})}
        print(json.dumps(job | {"arguments": list(map(str, arguments))}), file=self.server.stdin)
        self.server.stdin.flush()
        self.last = Forked(int(self.server.stdout.readline()), folder, self.server)
        return self.last

    def run(self, *arguments: object, **options: object) -> tuple[int, str, str]:
        """Starts `qfm ARGUMENTS`, and waits; returns exit status, stdout and stderr."""
        return self.start(*arguments, **options).wait()

    def close(self) -> None:
        if self.server is not None:
            self.last.end()
            self.server.communicate()


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkServer]:
    """`forked.run("train", recipe, before="code")`: `qfm` as a process, without its imports."""
    with contextlib.closing(ForkServer()) as server:
        yield server
