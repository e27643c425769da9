"""A run's folder: begun, resumed, or refused."""

import json
import subprocess
import sys

import pytest

from qfm_iqm.errors import RecipeError, TableError
from qfm_iqm.training.data import load_data
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.run_folder import RunFolder


@pytest.fixture
def begun(make_recipe, tmp_path):
    """A folder where a run of the plain recipe has saved its state."""
    folder = RunFolder(tmp_path / "a" / "run", make_recipe(), resume=False)
    folder.begin(load_data(make_recipe()).split)
    folder.state.touch()
    return folder


def test_a_new_run_writes_its_recipe_and_split(make_recipe, tmp_path):
    recipe = make_recipe()
    folder = RunFolder(tmp_path / "a" / "run", recipe, resume=False)
    assert not folder.resuming
    assert not folder.path.exists()  # only inspected
    split = load_data(recipe).split
    folder.begin(split)
    text = (folder.path / "recipe.json").read_text("utf-8")
    assert Recipe.model_validate_json(text) == recipe
    assert (folder.path / "split.txt").read_text("utf-8") == split.to_text()
    assert {path.name for path in folder.path.iterdir()} == {"recipe.json", "split.txt"}


def test_the_log_grows_by_lines_and_begins_anew_with_a_run(make_recipe, begun):
    begun.log(kind="step", step=1)
    begun.log(kind="test", name="ü")
    lines = (begun.path / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"kind": "step", "step": 1},
        {"kind": "test", "name": "ü"},
    ]
    begun.begin(load_data(make_recipe()).split)
    assert not (begun.path / "log.jsonl").exists()


def test_a_run_that_is_there_is_gone_on_with_or_refused(make_recipe, begun):
    assert RunFolder(begun.path, make_recipe(), resume=True).resuming
    with pytest.raises(RecipeError, match="already holds a run: continue with --resume"):
        RunFolder(begun.path, make_recipe(), resume=False)


def test_without_a_state_there_is_no_run(make_recipe, begun):
    begun.state.unlink()
    for resume in (True, False):
        assert not RunFolder(begun.path, make_recipe(train__lr=1.0), resume=resume).resuming


@pytest.mark.parametrize(
    "change", [{"train__workers": 2}, {"train__cache": False}, {"train__device": "auto"}]
)
def test_what_computes_the_same_may_differ(make_recipe, begun, change):
    assert RunFolder(begun.path, make_recipe(**change), resume=True).resuming


@pytest.mark.parametrize(
    "change",
    [
        {"train__seed": 1},
        {"method__w_pl": 0.5},
        {"distillation__share": 1.0},
        {"train__crop": 24},
    ],
)
def test_what_computes_otherwise_is_another_recipe(make_recipe, begun, change):
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        RunFolder(begun.path, make_recipe(**change), resume=True)


def test_a_finished_run_of_another_recipe_or_split_is_refused(make_recipe, begun):
    begun.state.unlink()
    begun.model.mkdir()
    (begun.model / "card.json").touch()
    run = RunFolder(begun.path, make_recipe(), resume=True)
    assert run.finished
    assert not run.resuming
    run.refuse_another_split(load_data(make_recipe()).split)
    with pytest.raises(RecipeError, match="holds a run with other images"):
        run.refuse_another_split(load_data(make_recipe(data__split_seed=1)).split)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        RunFolder(begun.path, make_recipe(train__epochs=5), resume=True)
    (begun.path / "recipe.json").unlink()
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        RunFolder(begun.path, make_recipe(), resume=True)


def test_a_place_that_cannot_be_written_is_refused(make_recipe, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"cannot be written to .*file: it is a file"):
        RunFolder(tmp_path / "file", make_recipe(), resume=False)
    below = RunFolder(tmp_path / "file" / "run", make_recipe(), resume=False)
    with pytest.raises(TableError, match=r"run' cannot be written: Not a directory"):
        below.begin(load_data(make_recipe()).split)


def test_a_run_of_a_version_with_fewer_options_goes_on(make_recipe, begun):
    path = begun.path / "recipe.json"
    content = json.loads(path.read_text("utf-8"))
    for section, key in (("data", "split"), ("train", "warmup_prefix"), ("network", "squeeze")):
        del content[section][key]
    del content["protocol"]
    path.write_text(json.dumps(content), "utf-8")
    assert RunFolder(begun.path, make_recipe(), resume=True).resuming
    other = make_recipe(train__warmup_prefix=False)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        RunFolder(begun.path, other, resume=True)
    content["train"]["epochs"] = 9  # the default, not the run's own value
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        RunFolder(begun.path, make_recipe(), resume=True)


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from qfm_iqm.errors import RecipeError
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.run_folder import RunFolder

path = Path(sys.argv[1])
recipe = Recipe.model_validate_json((path / "recipe.json").read_text("utf-8"))
try:
    with RunFolder(path, recipe, resume=True).locked():
        print("mine")
except RecipeError as error:
    print(error)
"""


def test_two_processes_cannot_train_one_run(begun):
    def other():
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(begun.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with begun.locked():
        assert other() == f"Another process is training {begun.path}."
    assert other() == "mine"
