"""The examples of docs/gate.md, run as written; action and hook: `test_gate_installed.py`."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "gate.md").read_text("utf-8")
(JOB,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SCORE, PIPELINE = (line.partition("#")[0] for line in re.findall(r"- run: qfm (.+)", TEXT))


@pytest.fixture
def folder(photo_folder, tmp_path, monkeypatch):
    """A working folder with photos wherever the examples look for them."""
    for name in ("originals", "built", "uploads"):
        shutil.copytree(photo_folder, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pipeline_that_changed_nothing_passes(qfm, folder):
    assert qfm(*shlex.split(SCORE)).code == 0
    answer = qfm(*shlex.split(PIPELINE))
    assert answer.code == 0
    assert "12 passed (at most 5 worse" in answer.err


def run_job(folder):
    """The Python job in a separate process, where `qfm` is this interpreter's."""
    (folder / "job.py").write_text(JOB)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "job.py"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_job_names_what_did_not_pass(folder):
    (folder / "uploads" / "broken.jpg").write_text("no image")
    done = run_job(folder)
    assert done.returncode == 2
    assert "error uploads/broken.jpg cannot read" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_job_says_what_was_wrong_with_its_call(folder):
    (folder / "gate.json").write_text("{}")  # from an earlier run: must not be read
    shutil.rmtree(folder / "uploads")
    (folder / "uploads").mkdir()
    done = run_job(folder)
    assert done.returncode == 2
    assert "There is no image in uploads/" in done.stderr
    assert "Traceback" not in done.stderr
