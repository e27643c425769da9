import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import qfm_iqm

from .installation import faults_of_sdist, faults_of_wheel

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "timm", "PIL", "numpy", "scipy", "pyarrow", "huggingface_hub", "safetensors")

IMPORTED = f"""
import sys
sys.argv = ["qfm", *sys.argv[1:]]
{{action}}
print("HEAVY", sorted(set({HEAVY!r}) & sys.modules.keys()))
"""
RUN = """
from qfm_iqm.cli.main import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
"""

# Runs a program as if the modules named in its first argument were not installed.
WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder
hidden = set(sys.argv.pop(1).split(","))
class Others(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path = [Others if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# A system without POSIX: hidden from this package, but not from others.
ELSEWHERE = """
import builtins, os, sys
import torch, torchmetrics
real = builtins.__import__
def only_others(name, globals=None, *rest):
    if name in ("resource", "fcntl", "pwd", "grp", "termios"):
        if (globals or {}).get("__name__", "").startswith("qfm_iqm"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    return real(name, globals, *rest)
builtins.__import__ = only_others
for name in ("memfd_create", "fork", "sched_getaffinity", "sysconf", "uname", "getppid"):
    delattr(os, name)
"""
SCORE_ELSEWHERE = """
import qfm_iqm
for name in qfm_iqm.__all__:
    getattr(qfm_iqm, name)
photo = sys.argv[1]
(row,) = qfm_iqm.Scorer(qfm_iqm.load_runtime(), readers=2).score_paths([photo])
assert row.status == "ok", row.error
assert abs(qfm_iqm.load_model().score(photo).value - row.score) < 0.01
assert "qfm_iqm.image.decode_pool" in sys.modules
sys.argv = ["qfm", "score", photo]
"""


def test_photos_are_scored_without_posix(photo_folder):
    setting = "import sys\nsys.platform = 'elsewhere'\n"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ELSEWHERE + setting + SCORE_ELSEWHERE + RUN,
            str(photo_folder / "photo_05.png"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("path,")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("import qfm_iqm; dir(qfm_iqm)", []),
        (RUN, ["--help"]),
        (RUN, ["--version"]),
        (RUN, ["score", "--help"]),
        (RUN, ["train", "--help"]),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(action, arguments):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(action=action), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize(
    "verb", [["score"], ["gate", "--min", "0", "--json", "gate.json"], ["score", "--out", "a.csv"]]
)
def test_a_photo_is_scored_without_torch(photo_folder, tmp_path, verb):
    script = IMPORTED.format(action=RUN)
    done = subprocess.run(
        [sys.executable, "-c", script, verb[0], str(photo_folder / "photo_05.png"), *verb[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not {"'torch'", "'timm'"} & set(re.findall(r"'\w+'", done.stdout.splitlines()[-1]))


def test_the_public_names_are_there():
    for name in qfm_iqm.__all__:
        assert getattr(qfm_iqm, name).__name__ == name
        assert name in dir(qfm_iqm)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        qfm_iqm.no_such_name  # noqa: B018


def test_the_version_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert qfm_iqm.__version__ == project["version"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## {project['version']} - " in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Wheel and sdist; `installation.py` builds them as for the index, and tries them."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    for target in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=120,
        )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_distributions_hold_what_they_should_and_no_data(distributions):
    wheel, sdist = distributions
    assert faults_of_wheel(wheel) == []
    assert faults_of_sdist(sdist) == []
    with zipfile.ZipFile(wheel) as file:
        assert {"qfm_iqm/py.typed", "qfm_iqm/cli/main.py"} <= set(file.namelist())


def test_data_in_a_distribution_would_be_found(distributions, tmp_path):
    wheel = Path(shutil.copy(distributions[0], tmp_path))
    with zipfile.ZipFile(wheel, "a") as file:
        file.writestr("qfm_iqm/pretrained/default/labels.csv", "name,mos")
        file.writestr("tests/conftest.py", "")
        file.writestr("qfm_iqm/large.safetensors", os.urandom(8_000_000))
    assert [fault.partition(" ")[2] for fault in faults_of_wheel(wheel)] == [
        "holds qfm_iqm/pretrained/default/labels.csv", "holds tests/conftest.py",
        "has more than 20 MB",
    ]  # fmt: skip


def test_the_classifiers_are_those_of_the_index_and_of_ci():
    known = pytest.importorskip("trove_classifiers").classifiers
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(project["classifiers"]) <= known
    named = {one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3." in one}
    (tried,) = re.findall(r"python: (\[.*\])", (ROOT / ".github/workflows/ci.yml").read_text())
    assert named == set(json.loads(tried))
    assert project["requires-python"] == f">={min(named, key=lambda one: int(one[2:]))}"


def test_the_demo_needs_no_more_than_its_extra(tmp_path):
    needed = _installed_by("qfm-iqm[demo]")
    hidden = [
        module
        for module, names in packages_distributions().items()
        if not needed & {canonicalize_name(name) for name in names}
    ]
    assert {"torchmetrics", "peft"} <= set(hidden)
    demo = ROOT / "examples" / "demo.py"
    command = [sys.executable, "-c", WITHOUT, ",".join(hidden), str(demo)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "astronaut" in done.stdout


def _installed_by(requirement):
    """The packages that pip installs for a requirement, of those installed here."""
    found, seen, left = set(), set(), [Requirement(requirement)]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        try:
            texts = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        for other in map(Requirement, texts):
            extras = ("", *wanted.extras)
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in extras):
                left.append(other)
    return found
