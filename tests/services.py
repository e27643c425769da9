"""A real service for tests: its own process on a free port of this machine."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Service:
    process: subprocess.Popen[str]
    url: str
    said: list[str] = field(default_factory=list)

    def client(self, **options: object) -> object:
        httpx = pytest.importorskip("httpx")
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False, **options)

    def children(self) -> list[int]:
        # Each thread has its own children: a thread of the pool started the workers.
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        every = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        return [
            pid for pid in every if b"decode_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@contextmanager
def serving(
    model: object, *options: object, env: dict[str, str] | None = None
) -> Iterator[Service]:
    command = [sys.executable, "-m", "qfm_iqm", "serve", "--port", "0", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--model", str(model), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        # A background job ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    said = []
    # Its later output must not fill the pipe.
    reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise AssertionError("".join(said))
        reader.start()
        yield Service(process, found.group(), said)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if reader.is_alive():
            reader.join(10)
