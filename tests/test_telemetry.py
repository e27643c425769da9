"""A run leaves nothing on the disk except its output, and contacts nobody."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qfm_iqm.telemetry import _SWITCHES

QFM = str(Path(sys.executable).with_name("qfm"))


def untraceable():
    """Why the system calls of a process cannot be seen here; empty if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "there is no strace"
    tried = subprocess.run([strace, "-qq", "-e", "trace=none", "true"], capture_output=True)
    return "" if tried.returncode == 0 else "strace may not trace here"


UNTRACEABLE = untraceable()
needs_strace = pytest.mark.skipif(bool(UNTRACEABLE), reason=UNTRACEABLE)


def alone(tmp_path):
    """An environment without switches, whose folders of the user's are empty ones."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _SWITCHES and not name.startswith("XDG_")
    }
    (home / "tmp").mkdir()
    return kept | {"HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1"}


def left_in(tmp_path):
    return sorted(
        str(path.relative_to(tmp_path / "home"))
        for path in (tmp_path / "home").rglob("*")
        if path != tmp_path / "home" / "tmp"
    )


@pytest.fixture
def run(tmp_path):
    """Runs `qfm`, traced; gives the lines of connections and of datagrams that were sent."""
    trace = tmp_path / "trace"
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    command = ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(trace)]

    def begin(*arguments):
        return subprocess.Popen(
            [*command, QFM, *map(str, arguments)],
            cwd=tmp_path,
            env=alone(tmp_path),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def addressed():
        return [line for line in trace.read_text().splitlines() if "AF_INET" in line]

    return begin, addressed


@needs_strace
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "PHOTOS", "--out", "scores.csv", "--report", "report.html"],
        ["score", "PHOTOS", "--max-memory", "1GB", "--readers", "1", "--runtime", "onnx"],
        ["gate", "PHOTOS", "--min", "0", "--json", "gate.json"],
    ],
)
def test_a_verb_leaves_only_its_output_and_speaks_to_nobody(run, arguments, photo_folder, tmp_path):
    begin, addressed = run
    process = begin(*(str(photo_folder) if one == "PHOTOS" else one for one in arguments))
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert left_in(tmp_path) == []
    assert addressed() == []


@needs_strace
def test_the_service_leaves_nothing_and_speaks_to_its_clients_alone(run, photo_folder, tmp_path):
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("fastapi")
    begin, addressed = run
    process = begin("serve", "--port", "0", "--workers", "1")
    try:
        url = re.search(r"http://\S+", process.stderr.readline()).group()
        photo = (photo_folder / "photo_00.jpg").read_bytes()
        answer = httpx.post(f"{url}/v1/score", content=photo, timeout=120, trust_env=False)
        assert answer.status_code == 200
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:  # strace ends after the process that it traces
            os.kill(int(child), signal.SIGTERM)
        process.communicate(timeout=60)
    assert left_in(tmp_path) == []
    assert addressed() == []


def test_what_the_user_has_chosen_stays():
    code = f"import os, qfm_iqm; print(*map(os.environ.get, {list(_SWITCHES)}))"

    def said(chosen):
        env = {name: value for name, value in os.environ.items() if name not in _SWITCHES} | chosen
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert said({}) == list(_SWITCHES.values())
    assert said({"ORT_DISABLE_TELEMETRY": "0"})[0] == "0"
    assert said({"RAY_USAGE_STATS_ENABLED": "1"}) == ["1", "1", "1"]


def test_libraries_have_taken_their_switches():
    code = (
        "import qfm_iqm\n"
        "from huggingface_hub import constants\n"
        "print(constants.HF_HUB_DISABLE_TELEMETRY)\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in _SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


CONVERT = """
import sys
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.runtimes.export import export
from pathlib import Path
_, model, folder, *photos = sys.argv
export(load_model(model), Path(folder), "openvino", precision="int8", photos=photos)
from qfm_iqm import Scorer, load_runtime
assert all(row.score for row in Scorer(load_runtime(folder)).score_paths(photos))
"""


@needs_strace
def test_a_conversion_is_told_to_nobody(tiny_model_folder, photo_folder, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    trace = tmp_path / "trace"
    photos = sorted(str(path) for path in photo_folder.iterdir())
    command = ["strace", "-f", "-qq", "-e", "trace=connect", "-e", "signal=none", "-o", str(trace)]
    code = f"from qfm_iqm.scoring.runtimes import base; base.TOLERANCE['int8'] = 1e9{CONVERT}"
    done = subprocess.run(
        [*command, sys.executable, "-c", code, tiny_model_folder, tmp_path / "made", *photos],
        env=alone(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert left_in(tmp_path) == []
    assert "AF_INET" not in trace.read_text()
