import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import qfm_iqm

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


def test_the_public_names_are_there():
    for name in qfm_iqm.__all__:
        assert getattr(qfm_iqm, name).__name__ == name
        assert name in dir(qfm_iqm)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        qfm_iqm.no_such_name  # noqa: B018


def test_the_distributions_carry_the_type_marker(tmp_path):
    pytest.importorskip("hatchling")
    for target in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(tmp_path)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=120,
        )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"qfm_iqm/py.typed", "qfm_iqm/cli/main.py"} <= names
    assert all(name.startswith(("qfm_iqm/", "qfm_iqm-")) for name in names)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        assert any(name.endswith("/src/qfm_iqm/py.typed") for name in file.getnames())
