"""`action.yml` and `.pre-commit-hooks.yaml`: runs their commands in a separate installation.

The steps and the hook come from the files. Two things differ: the dependencies are those of this
environment, and this environment's Python replaces that of setup-python.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/gate.md").read_text("utf-8"), re.DOTALL)
SCORED = (0, 1)  # whatever the photos' quality: not 2

# pip builds and installs as for users, but downloads nothing.
OFFLINE = {
    "PIP_NO_BUILD_ISOLATION": "0",  # the value of `build_isolation`
    "PIP_NO_DEPS": "1",
    "PIP_NO_INDEX": "1",
    "PYTHONPATH": os.pathsep.join(
        path for path in sys.path if Path(path).is_dir() and not Path(path, "qfm_iqm").exists()
    ),
}


class Runner:
    """What of GitHub's runner a composite action needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.code = 0

    def run(self, workspace: Path, steps: slice = slice(None), **inputs: str) -> "Runner":
        """Runs steps with a shell, as a runner does, until one fails."""
        known = {name: one.get("default", "") for name, one in ACTION["inputs"].items()}
        values = {f"inputs.{name}": value for name, value in (known | inputs).items()} | {
            "github.action_path": str(ROOT),
            "runner.temp": str(self.folder),
            "steps.python.outputs.python-path": sys.executable,
        }
        self.output.write_text("")
        for step in ACTION["runs"]["steps"][steps]:
            if "uses" in step:
                continue
            own = {
                name: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: values[found[1]], text)
                for name, text in step["env"].items()
            }
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=workspace,
                env=os.environ | OFFLINE | own | {"GITHUB_OUTPUT": str(self.output)},
                capture_output=True,
                text=True,
                timeout=240,
            )
            self.code, self.err = done.returncode, done.stderr
            if self.code:
                break
        return self


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A runner on which the action has installed the package."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("runner")
    installed = Runner(folder).run(folder, slice(0, 2))
    assert installed.code == 0, installed.err
    home = folder / "qfm-iqm"
    told = [home / "bin" / "python", "-P", "-c", "import qfm_iqm; print(qfm_iqm.__file__)"]
    found = subprocess.check_output(told, env=os.environ | OFFLINE, text=True)
    assert Path(found).is_relative_to(home)  # not in the sources
    return installed


@pytest.fixture
def workspace(photo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "content" / "two words")
    return tmp_path


GATE = slice(2, None)


def test_the_action_scores_the_images_and_leaves_its_files(runner, workspace):
    paths = "content/two words/photo_00.jpg\ncontent/two words/photo_01.jpg\n"
    done = runner.run(workspace, GATE, paths=paths, min="0", junit="gate.xml", json="gate.json")
    assert done.code == 0, done.err
    assert done.output.read_text() == "exit-code=0\n"
    assert ElementTree.parse(workspace / "gate.xml").getroot().get("tests") == "2"
    assert (workspace / "gate.json").is_file()


def test_the_action_fails_with_the_gates_code(runner, workspace):
    done = runner.run(workspace, GATE, paths="content", min="100", review="99:100")
    assert (done.code, done.output.read_text()) == (1, "exit-code=1\n")
    (workspace / "content" / "broken.jpg").write_text("no image")
    done = runner.run(workspace, GATE, paths="content", min="0")
    assert (done.code, done.output.read_text()) == (2, "exit-code=2\n")
    assert "broken.jpg" in done.err


def test_the_workflow_of_the_page_runs(runner, workspace):
    (job,) = [block for block in map(yaml.safe_load, BLOCKS) if "jobs" in block]
    steps = job["jobs"]["quality"]["steps"]
    (given,) = [step["with"] for step in steps if "qfm-iqm@" in step["uses"]]
    shutil.move(workspace / "content" / "two words", workspace / given["paths"])
    done = runner.run(workspace, GATE, **{name: str(value) for name, value in given.items()})
    assert done.code in SCORED, done.err
    assert ElementTree.parse(workspace / "gate.xml").getroot().get("tests") == "12"


def test_what_is_given_to_the_action_is_never_run(runner, workspace):
    for given in ("$(touch ran)", "`touch ran`", '"; touch ran; "', "--help"):
        done = runner.run(workspace, GATE, paths=given, min="50")
        assert done.code == 2, done.err
        assert "there is no such file" in done.err
    assert runner.run(workspace, GATE, paths="content", min="$(touch ran)").code == 2
    assert not (workspace / "ran").exists()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


REFUSED = {
    "min": ({"min": "nan"}, "finite numbers, but nan"),
    "max": ({"max": "3"}, "give --min, not --max"),
    "review": ({"min": "1", "review": "x"}, "'x' is not a review band"),
    "max-drop": ({"min": "1", "max-drop": "5"}, "--baseline and --max-drop belong together"),
    "baseline": ({"baseline": "gone.csv", "max-drop": "5"}, "There is no table gone.csv"),
    "max-cause": ({"min": "1", "max-cause": "blur:20\nwear:3"}, "There is no cause 'wear'"),
    "junit": ({"min": "1", "junit": "a.txt"}, "'a.txt' cannot be written"),
    "json": ({"min": "1", "json": "b.txt"}, "'b.txt' cannot be written"),
    "model": ({"min": "1", "model": "gone"}, "There is no model 'gone'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_every_input_of_the_action_reaches_the_gate(runner, workspace, name):
    inputs, sentence = REFUSED[name]
    done = runner.run(workspace, GATE, paths="content", **inputs)
    assert done.code == 2
    assert sentence in done.err


def test_no_input_of_the_action_is_left_out():
    assert ACTION["inputs"].keys() == REFUSED.keys() | {"paths", "extras"}


def test_the_action_needs_only_setup_python():
    used = [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step]
    assert [name.partition("@")[0] for name in used] == ["actions/setup-python"]


def hook(files, cwd, home, **changed):
    """What pre-commit runs: the entry of the hook's own environment, its args, and the files."""
    entry, *more = (HOOK | changed)["entry"].split()
    return subprocess.run(
        [home / "bin" / entry, *more, *(HOOK | changed)["args"], *files],
        cwd=cwd,
        env=os.environ | OFFLINE,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_hook_takes_staged_files(runner, workspace):
    home = runner.folder / "qfm-iqm"  # as pre-commit makes it: a venv, and `pip install .`
    assert HOOK["language"] == "python"
    photos = sorted(path.relative_to(workspace) for path in workspace.rglob("photo_0[01].jpg"))
    assert len(photos) == 2
    assert hook(photos, workspace, home).returncode in SCORED
    (given,) = [block["repos"][0]["hooks"][0] for block in map(yaml.safe_load, BLOCKS)
                if "repos" in block]  # fmt: skip
    assert hook(photos, workspace, home, **given).returncode in SCORED
    assert given["id"] == HOOK["id"]
    assert hook(photos, workspace, home, args=["--min", "0"]).returncode == 0
    done = hook(photos, workspace, home, args=["--min", "100"])
    assert done.returncode == 1
    assert "two words/photo_00.jpg" in done.stderr
