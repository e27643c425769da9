"""Builds wheel and sdist, checks their files, and tests the wheel in empty environments.

    python tests/installation.py [--lowest] [PYTHON...]

The wheel is built from the sdist, as for the package index. For each Python (paths or names;
default: this one) an empty environment is made, the wheel is installed with the newest dependencies
or, with --lowest, those of `.ci/oldest.py`, and photos are scored by command and from Python. An
environment takes up to 6 GB of the temporary folder, one at a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
# Code, pages, models and installers' files. No data: no images, tables or archives.
IN_WHEEL = {".py", ".typed", ".json", ".html", ".css", ".js", ".onnx", ".safetensors", ".1"}
WHEEL_MB, SDIST_MB = 20, 25
TOO_LARGE_MB = 10  # for one file of the sdist: weights are below

TRY = """
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import qfm_iqm

noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
photo = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
Path("photos").mkdir()
photo.save("photos/photo.jpg")
assert Path(qfm_iqm.__file__).is_relative_to(sys.prefix), qfm_iqm.__file__
(row,) = qfm_iqm.Scorer(qfm_iqm.load_runtime()).score_paths("photos/photo.jpg")
assert row.runtime == "onnx", row
torchs = qfm_iqm.load_model().score("photos/photo.jpg").value
assert abs(row.score - torchs) < 0.05, (row.score, torchs)
assert qfm_iqm.load_model().explain("photos/photo.jpg").values.ndim == 2
assert Path(sys.prefix, "share/man/man1/qfm.1").is_file()
print(f"scores {row.score:.2f}")
"""
COMMANDS = (
    "qfm --version",
    "qfm info",
    "qfm score photos --out scores.csv --report report.html",
    "qfm gate photos --min 0",
    "qfm cull photos --out cull.csv",
    "qfm export --to hub-folder --out hub",
)
SHOWN = ("numpy", "pillow", "torch", "timm", "onnxruntime", "pyarrow", "typer", "huggingface-hub")


def main() -> None:
    """Builds, checks and tests; exits with a sentence at the first fault."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--lowest", action="store_true", help="dependencies at their lower bounds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = built(Path(folder))
        faults = [*faults_of_wheel(wheel), *faults_of_sdist(sdist), *not_committed(sdist)]
        if faults:
            sys.exit("\n".join(faults))
        for file in (wheel, sdist):
            print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB", flush=True)
        for python in asked.pythons:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                print(tried(python, wheel, Path(place), lowest=asked.lowest), flush=True)


def built(folder: Path) -> tuple[Path, Path]:
    """Wheel and sdist by the tool that maintainers use, in a separate environment."""
    python = environment(sys.executable, folder / "builder")
    run([python, "-m", "pip", "install", "--quiet", "build"])
    run([python, "-m", "build", "--outdir", folder / "dist", ROOT])
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


def faults_of_wheel(wheel: Path) -> list[str]:
    """What is in a wheel that should not be, or is missing."""
    with zipfile.ZipFile(wheel) as file:
        names = [PurePosixPath(name) for name in file.namelist()]
        (metadata,) = (name for name in names if name.name == "METADATA")
        told = file.read(str(metadata)).decode()
    own = [name for name in names if ".dist-info" not in name.parts[0]]
    faults = [f"{wheel.name} holds {name}" for name in own if name.suffix not in IN_WHEEL]
    faults += [
        f"{wheel.name} holds {name}"
        for name in names
        if not name.parts[0].startswith(("qfm_iqm-", "qfm_iqm"))
    ]
    wanted = {"py.typed", "main.py", "model.onnx", "model.safetensors", "report.html", "qfm.1"}
    faults += [
        f"{wheel.name} lacks {name}"
        for name in (wanted | {"LICENSE", "NOTICE"}) - {name.name for name in names}
    ]
    for line in ("Requires-Python: >=3.11", "License-Expression: Apache-2.0"):
        if line not in told:
            faults.append(f"{wheel.name} does not say {line}")
    if wheel.stat().st_size > WHEEL_MB * 1e6:
        faults.append(f"{wheel.name} has more than {WHEEL_MB} MB")
    return faults


def faults_of_sdist(sdist: Path) -> list[str]:
    """What is in an sdist that should not be, or is missing."""
    sizes = sizes_in(sdist)
    faults = [
        f"{sdist.name} holds {name} of {size / 1e6:.1f} MB"
        for name, size in sizes.items()
        if size > TOO_LARGE_MB * 1e6
    ]
    wanted = ("README.md", "LICENSE", "pyproject.toml", "docs/qfm.1", "tests/conftest.py")
    faults += [f"{sdist.name} lacks {name}" for name in wanted if PurePosixPath(name) not in sizes]
    if sdist.stat().st_size > SDIST_MB * 1e6:
        faults.append(f"{sdist.name} has more than {SDIST_MB} MB")
    return faults


def not_committed(sdist: Path) -> list[str]:
    """What an sdist holds beyond what git knows."""
    tracked = run(["git", "-C", ROOT, "ls-files", "-z"]).split("\0")
    more = sizes_in(sdist).keys() - {*map(PurePosixPath, tracked), PurePosixPath("PKG-INFO")}
    return [f"{sdist.name} holds {name}, which is not committed" for name in more]


def sizes_in(sdist: Path) -> dict[PurePosixPath, int]:
    """The files in an sdist below its one folder."""
    with tarfile.open(sdist) as file:
        paths = [(PurePosixPath(one.name), one.size) for one in file.getmembers()]
    return {PurePosixPath(*path.parts[1:]): size for path, size in paths}


def tried(python: str, wheel: Path, folder: Path, *, lowest: bool) -> str:
    """Installs a wheel into an empty environment and scores with it; returns a description."""
    inside = environment(python, folder / "environment")
    options = ["--quiet", "--only-binary", ":all:"]
    if lowest:
        oldest = run([sys.executable, ROOT / ".ci" / "oldest.py"])
        (folder / "oldest.txt").write_text(oldest)
        options += ["--constraint", folder / "oldest.txt"]
    run([inside, "-m", "pip", "install", *options, wheel])
    run([inside, "-m", "pip", "check"])
    (folder / "try.py").write_text(TRY)
    said = run([inside, folder / "try.py"], folder).splitlines()[-1]
    for command in COMMANDS:
        program, *arguments = command.split()
        run([inside.with_name(program), *arguments], folder)
    asked = f"from importlib.metadata import version as v; print(*map(v, {SHOWN}))"
    versions = zip(SHOWN, run([inside, "-c", asked]).split(), strict=True)
    version = run([inside, "--version"]).strip()
    shown = ", ".join(map(" ".join, versions))
    return f"{version}, {'lowest' if lowest else 'newest'} dependencies: {said} ({shown})"


def environment(python: str, folder: Path) -> Path:
    """Makes an environment; returns its Python."""
    run([python, "-m", "venv", folder])
    inside = folder / "bin" / "python"
    run([inside, "-m", "pip", "install", "--quiet", "--upgrade", "pip"])
    return inside


def run(command: list[str | Path], folder: Path | None = None) -> str:
    """Runs a program without this one's environment for Python; returns its output."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
