"""No process of any verb runs code from the current folder."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

QFM = str(Path(sys.executable).with_name("qfm"))
# Modules of Python, of packages and of this one; none may be run from the photos' folder.
PLANTED = (
    "PIL", "__future__", "concurrent", "contextlib", "ctypes", "errors", "fcntl", "hashlib",
    "importlib", "json", "mmap", "multiprocessing", "numpy", "onnxruntime", "pickle", "pydantic",
    "queue", "random", "re", "resource", "selectors", "signal", "site", "sitecustomize", "socket",
    "struct", "subprocess", "tempfile", "threading", "torch", "traceback", "typer", "types",
    "typing", "usercustomize", "uuid",
)  # fmt: skip
# Python imports these for -m, before any line of ours: `python -P -m` is safe.
BY_PYTHON = {"contextlib", "importlib", "re", "types", "typing"}


def plant(folder, names=PLANTED):
    """Modules that leave a mark when they are run."""
    for name in names:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / (name + '.ran'))!r}, 'w').close()\n"
            f"raise ImportError('the planted {name} was run')\n"
        )


def ran(folder):
    return sorted(path.name for path in folder.glob("*.ran"))


@pytest.fixture
def folder(photo_folder, tmp_path):
    """A folder with photos and, beside them, code."""
    made = tmp_path / "photos"
    shutil.copytree(photo_folder, made)
    plant(made)
    return made


def environment():
    """This process's, without what keeps the current folder out by itself."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return kept | {"OMP_NUM_THREADS": "1"}


def call(folder, *command, env=None):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran(folder) == []
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_planted_would_be_run(folder):
    code = "import onnxruntime"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), check=False)
    assert done.returncode
    assert "onnxruntime.ran" in ran(folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "."],
        ["score", ".", "--max-memory", "2GB", "--readers", "1", "--out", "scores.csv"],
        ["gate", ".", "--min", "0"],
    ],
)
def test_verbs(folder, arguments):
    call(folder, QFM, *arguments)


def test_many_photos_are_read_by_processes(folder):
    for number in range(201):
        os.link(folder / "photo_00.jpg", folder / f"more_{number}.jpg")
    call(folder, QFM, "score", ".", "--out", "scores.csv")


@pytest.mark.parametrize("safe", [True, False])
def test_as_a_module(folder, safe):
    if not safe:
        for name in BY_PYTHON:
            (folder / f"{name}.py").unlink()
    options = ["-P"] if safe else []
    rest = ["score", ".", "--max-memory", "2GB", "--readers", "1"]
    call(folder, sys.executable, *options, "-m", "qfm_iqm", *rest)


def test_the_service(folder):
    pytest.importorskip("fastapi")
    process = subprocess.Popen(
        [QFM, "serve", "--port", "0", "--workers", "1"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert said.startswith("Serving")
    assert ran(folder) == []


def test_python_code_that_was_given_on_the_command_line(folder):
    """The current folder is searched here; modules imported before entering it are safe."""
    code = (
        "import os, sys\n"
        "from qfm_iqm import Scorer, load_runtime\n"
        "scorer = Scorer(load_runtime(), processes=True, readers=1)\n"
        "list(scorer.score_paths(['nowhere.jpg']))\n"
        "os.chdir(sys.argv[1])\n"
        "print(*[row.status for row in scorer.score_paths(['photo_00.jpg'])])"
    )
    arguments = ["-c", code, folder]
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    assert call(elsewhere, sys.executable, *arguments) == "ok\n"
    assert ran(folder) == []


def test_a_process_imports_what_its_parent_can(folder, tmp_path):
    """The user's own modules: from PYTHONPATH, and from beside the user's own program."""
    for place in ("listed", "program"):
        (tmp_path / place).mkdir()
    fetching = "from pathlib import Path\ndef fetch(path):\n    return Path(path).read_bytes()\n"
    (tmp_path / "listed" / "fetching_listed.py").write_text(fetching)
    (tmp_path / "program" / "fetching_beside.py").write_text(fetching)
    program = tmp_path / "program" / "run.py"
    program.write_text(
        "import sys, fetching_listed, fetching_beside\n"
        "from qfm_iqm import Scorer, load_runtime\n"
        "for module in (fetching_listed, fetching_beside):\n"
        "    scorer = Scorer(load_runtime(), processes=True, readers=1,\n"
        "                    fetch=module.fetch)\n"
        "    print(*[row.status for row in scorer.score_paths(['photo_00.jpg'])])\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path / "listed"), os.environ.get("PYTHONPATH")]))
    said = call(folder, sys.executable, program, env={"PYTHONPATH": path})
    assert said == "ok\nok\n"


RECIPE = """
[data]
root = "."
labels = "labelled.csv"
name = "noisy fields"
test = 0.2
validation = 0.2
[backbone]
name = "test_vit"
weights = "random"
[network]
crop = 32
[train]
epochs = 1
batch_size = 4
crops_per_image = 1
device = "cpu"
workers = 1
"""


def test_training_reads_in_processes(folder, tmp_path):
    photos = sorted(folder.glob("photo_*"))
    names = [f"rated_{number}.png" for number in range(30)]
    for number, name in enumerate(names):
        os.link(photos[number % 12], folder / name)
    rows = [f"{name},{number % 12},{name}" for number, name in enumerate(names)]
    (folder / "labelled.csv").write_text("\n".join(["name,mos,content", *rows]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    call(folder, QFM, "train", "recipe.toml", "--allow-leaks", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "model" / "card.json").is_file()


def test_ray(folder, tmp_path):
    pytest.importorskip("ray")
    options = ["--engine", "ray", "--out", tmp_path / "out"]
    switch = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    call(folder, QFM, "score", ".", *options, env=switch)
    assert (tmp_path / "out" / "part-000000.parquet").is_file()
