"""Recipes: errors name the refused key, and the packaged recipes are accepted."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from qfm_iqm.errors import RecipeError
from qfm_iqm.training.recipe_file import check_recipe, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
GRIDS = ("[variants.", "[[trials]]")  # of ablations and of the confounding experiment
RECIPES = [
    path
    for path in sorted(FOLDER.glob("*.toml"))
    if not any(mark in path.read_text() for mark in GRIDS)
]


@pytest.fixture
def recipe_file(recipe_content, write_recipe, tmp_path):
    return write_recipe(recipe_content(), tmp_path / "scenes.toml")


def refused(path, *changes):
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_recipe_is_read_with_defaults(recipe_file, rated_set):
    recipe = read_recipe(recipe_file)
    assert recipe.data.root == rated_set
    assert recipe.train.lr == 3e-4
    assert recipe.train.clip == 5.0
    assert recipe.method.kind == "baseline"
    assert recipe.model.name == "scenes"  # from the file
    assert recipe.table(recipe.data.labels) == rated_set / "labelled.csv"


def test_the_papers_protocol_is_the_default():
    """docs/method.md, section 10."""
    from qfm_iqm.training.recipe_schema import TrainConfig

    train = TrainConfig()
    assert (train.lr, train.weight_decay, train.clip) == (2e-4, 0.05, 5.0)
    assert (train.epochs, train.warmup_epochs, train.decay_epochs, train.decay) == (9, 3, 3, 0.1)
    assert train.flip


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("train.epochs=7", lambda r: r.train.epochs, 7),
        (" train.epochs = 7 ", lambda r: r.train.epochs, 7),
        ("train.lr=2", lambda r: r.train.lr, 2.0),
        ("train.lr=1e-5", lambda r: r.train.lr, 1e-5),
        ("train.flip=false", lambda r: r.train.flip, False),
        ("method.kind=qfm", lambda r: r.method.kind, "qfm"),
        ('method.kind="qfm"', lambda r: r.method.kind, "qfm"),
        ("data.name=two words = one", lambda r: r.data.name, "two words = one"),
        ('data.name="2021"', lambda r: r.data.name, "2021"),
        ("data.label.name=DMOS", lambda r: r.data.label.name, "DMOS"),
        ("data.label.higher_is_better=false", lambda r: r.data.label.higher_is_better, False),
        ("model.name=other", lambda r: r.model.name, "other"),
        ("network.shorter_side=64", lambda r: r.network.shorter_side, 64),
        ("distillation.share=1", lambda r: r.distillation.share, 1.0),
        ("distillation.leaks=drop", lambda r: r.distillation.leaks, "drop"),
    ],
)
def test_set_changes_one_key(recipe_file, change, read, value):
    found = read(read_recipe(recipe_file, [change]))
    assert found == value
    assert type(found) is type(value)


def test_the_last_change_counts(recipe_file):
    assert read_recipe(recipe_file, ["train.epochs=2", "train.epochs=5"]).train.epochs == 5


@pytest.mark.parametrize("change", ["train.epochs", "=3", "  = 3", ""])
def test_a_change_without_key_or_value_is_refused(recipe_file, change):
    assert f"--set takes key=value, not '{change}'" in refused(recipe_file, change)


@pytest.mark.parametrize(
    ("change", "key", "meant"),
    [
        ("train.epoch=3", "train.epoch", "train.epochs"),
        ("method.alhpa=0.2", "method.alhpa", "method.alpha"),
        ("trian.epochs=3", "trian", "train"),
        ("train.learning_rate=1", "train.learning_rate", None),
        ("data.label.minimun=1", "data.label.minimun", "data.label.minimum"),
        ("data..root=x", "data.", None),
        ("nonsense=1", "nonsense", None),
        ("distillation.unlabelled=x", "distillation.unlabelled", "distillation.unlabeled"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(recipe_file, change, key, meant):
    message = refused(recipe_file, change)
    assert f"unknown key '{key}'" in message
    if meant:
        assert f"did you mean '{meant}'?" in message


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("train.epochs=2.5", "train.epochs"),
        ("train.epochs=2.0", "train.epochs"),
        ("train.epochs=true", "train.epochs"),
        ("train.epochs=nine", "train.epochs"),
        ("train.flip=1", "train.flip"),
        ("train.flip=yes", "train.flip"),
        ("train.lr=fast", "train.lr"),
        ('train.lr="0.1"', "train.lr"),
        ("data.name=2021", "data.name"),
        ("data.root=3", "data.root"),
        ("data.label.higher_is_better=yes", "data.label.higher_is_better"),
        ('data.label.minimum="0"', "data.label.minimum"),
        ("method.kind=simclr", "method.kind"),
        ("distillation.leaks=ignore", "distillation.leaks"),
        ("distillation.per_step=yes", "distillation.per_step"),
        ("distillation.unlabeled=3", "distillation.unlabeled"),
        ("distillation.teacher=true", "distillation.teacher"),
        ("train.schedule=linear", "train.schedule"),
        ("train.precision=fp8", "train.precision"),
        ("backbone.tune=some", "backbone.tune"),
        ("model.precision=int8", "model.precision"),
    ],
)
def test_a_wrong_type_or_choice_is_refused_by_name(recipe_file, change, key):
    assert f"{key} = " in refused(recipe_file, change)


@pytest.mark.parametrize(
    "change",
    [
        "train.epochs=0",
        "train.batch_size=1",
        "train.lr=0",
        "train.lr=-1e-3",
        "train.lr=inf",
        "train.lr=nan",
        "train.decay=1.5",
        "train.clip=0",
        "train.seed=-1",
        "train.workers=-1",
        "data.test=0",
        "data.test=1.0",
        "data.validation=-0.1",
        "network.crop=8",
        "network.panel=0",
        "method.memory=0",
        "method.tau=0",
        "method.tau=inf",
        "method.alpha=-0.5",
        "distillation.share=0",
    ],
)
def test_a_value_out_of_range_is_refused_by_name(recipe_file, change):
    assert f"{change.partition('=')[0]} = " in refused(recipe_file, change)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["distillation.per_step=true"], "has no effect without distillation.unlabeled"),
        (["distillation.teacher=default"], "has no effect without distillation.unlabeled"),
        (["distillation.with_rated=true"], "distillation.with_rated needs distillation.per_step"),
        (
            ['distillation.teacher=["default", "vit-tiny"]'],
            "distillation.teacher may be a list only with distillation.per_step",
        ),
        (['distillation.teacher=["default", "default"]'], "may name a teacher only once"),
        (["train.crop=16", "train.fixed_crops=2"], "leave train.crop out"),
        (["train.crop=96", "network.shorter_side=64"], "is larger than network.shorter_side = 64"),
    ],
)
def test_options_that_need_others_are_refused_without_them(recipe_file, changes, sentence):
    assert sentence in refused(recipe_file, *changes)


def test_further_sizes_fall_from_the_first_to_the_crop(recipe_file):
    first = "network.shorter_side=64"
    recipe = read_recipe(recipe_file, [first, "network.extra_scales=[48, 32]"])
    assert recipe.network.preprocessing.extra_scales == (48, 32)
    for sides in ("[64]", "[40, 48]", "[31]"):
        message = refused(recipe_file, first, f"network.extra_scales={sides}")
        assert f"extra_scales must fall from shorter_side to crop at least: {sides}" in message


def test_augmentation_is_of_whole_photos_and_of_labels_that_rise(recipe_file, tmp_path):
    cells = tmp_path / "cells.csv"
    cells.touch()
    assert read_recipe(recipe_file).augment is None
    assert read_recipe(recipe_file, ["augment.zoom=0.8"]).augment.cells is None
    found = read_recipe(recipe_file, [f"augment.cells={cells}", "augment.good=0.5"])
    assert found.augment.good == 0.5
    for changes, sentence in (
        (["augment.floor=0.1"], "augment.floor has no effect without augment.cells"),
        (["augment.cells=gone.csv"], "augment.cells: there is no file gone.csv"),
        (["augment.zoom=0.8", "train.fixed_crops=2"], "which train.fixed_crops excludes"),
        (
            [f"augment.cells={cells}", "data.label.higher_is_better=false"],
            "augment.cells needs labels that are better when higher",
        ),
    ):
        assert sentence in refused(recipe_file, *changes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.root=nowhere", "data.root: there is no folder nowhere"),
        ("data.labels=none.csv", "data.labels: there is no file none.csv"),
        ("backbone.weights=w.safetensors", "backbone.weights: there is no file w.safetensors"),
        ("data.validation=0", "which only protocol = 'test-selected' allows"),
        (
            "network.extra_scales=[40]",
            "[network] is refused: extra_scales must fall from shorter_side to crop at least: [40]",
        ),
        ("network.squeeze=[8, 8]", "[network] is refused: squeeze has a side below 16: (8, 8)"),
        ("data.test=0.9", None),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_refused(recipe_file, change, sentence):
    if sentence is None:
        message = refused(recipe_file, change, "data.validation=0.1")
        assert "data.test and data.validation leave nothing" in message
    else:
        assert sentence in refused(recipe_file, change)


def test_unlabeled_images_must_be_there(recipe_file):
    message = refused(recipe_file, "distillation.unlabeled=nowhere", "method.kind=qfm")
    assert "distillation.unlabeled: there is no nowhere, nor one under " in message
    message = refused(recipe_file, "distillation.root=nowhere")
    assert "distillation.root: there is no folder nowhere" in message


def test_noise_from_unlabeled_images_needs_some(recipe_file):
    message = refused(recipe_file, "method.noise_from=unlabeled", "method.kind=qfm")
    assert "method.noise_from = 'unlabeled' needs distillation.unlabeled" in message


def test_unlabeled_images_lie_under_the_root_or_elsewhere(recipe_file, rated_set, unlabeled_folder):
    for place, found in (
        ("labelled.csv", rated_set / "labelled.csv"),
        (".", rated_set),
        (unlabeled_folder, unlabeled_folder),
    ):
        recipe = read_recipe(recipe_file, [f"distillation.unlabeled={place}", "method.kind=qfm"])
        assert recipe.pool == found
        assert recipe.pool_root == rated_set


def test_unlabeled_images_may_have_a_root_of_their_own(recipe_file, tmp_path):
    (tmp_path / "pool.csv").write_text("name\n")
    changes = [
        f"distillation.root={tmp_path}",
        "distillation.unlabeled=pool.csv",
        "method.kind=qfm",
    ]
    recipe = read_recipe(recipe_file, changes)
    assert recipe.pool == tmp_path / "pool.csv"
    assert recipe.pool_root == tmp_path


def test_unlabeled_images_without_effect_are_refused(recipe_file):
    unlabeled = "distillation.unlabeled=labelled.csv"
    for weights in ([], ["method.w_pl=1", "method.w_u=0"]):
        message = refused(recipe_file, unlabeled, *weights)
        assert "distillation.unlabeled has no effect on method.kind = 'baseline'" in message
    for change in ("method.w_pl=0.5", "method.kind=qfm"):
        assert read_recipe(recipe_file, [unlabeled, change]).distillation.unlabeled is not None


@pytest.mark.parametrize(
    "section", ["distillation", "train", "data", "model", "method", "backbone"]
)
def test_a_section_that_is_no_table_is_refused_by_name(recipe_file, section):
    assert f"{section} = 3 is refused" in refused(recipe_file, f"{section}=3")
    assert "is not a table" in refused(recipe_file, "train.epochs.first=3")


@pytest.mark.parametrize("key", ["data.root", "data.labels", "backbone.name"])
def test_a_missing_key_is_named(recipe_content, key):
    content = recipe_content()
    section, _, name = key.partition(".")
    del content[section][name]
    with pytest.raises(RecipeError, match=rf"'{key}' is missing"):
        check_recipe(content)


@pytest.mark.parametrize(
    "content", [b"[data\n", b"\xff\xfe", b"data = 1\ndata = 2\n", None, "folder"]
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    assert str(path) in refused(path)


def test_an_empty_recipe_asks_for_its_sections(tmp_path):
    (tmp_path / "recipe.toml").write_text("")
    assert "'data' is missing" in refused(tmp_path / "recipe.toml")


def test_nothing_heavy_is_loaded_to_refuse_a_recipe(recipe_file):
    code = (
        "import sys\n"
        "from qfm_iqm.errors import RecipeError\n"
        "from qfm_iqm.training.recipe_file import read_recipe\n"
        "try:\n"
        f"    read_recipe(__import__('pathlib').Path({str(recipe_file)!r}), ['train.epoch=3'])\n"
        "except RecipeError:\n"
        "    heavy = {'accelerate', 'scipy', 'pyarrow'} & sys.modules.keys()\n"
        "    sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
        "sys.exit('not refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_ship_are_accepted(path, tmp_path):
    content = tomllib.loads(path.read_text("utf-8"))
    changes = [f"data.root={tmp_path}"]
    if labels := content["data"].get("labels"):
        (tmp_path / Path(labels).name).touch()
        changes.append(f"data.labels={Path(labels).name}")
    (tmp_path / "unlabelled.csv").touch()
    if cells := content.get("augment", {}).get("cells"):
        (tmp_path / cells).touch()
    dataset = None if content["data"].get("labels") else "livec"
    recipe = read_recipe(path, changes, dataset=dataset)
    assert recipe.data.terms  # the card needs them


def test_there_are_recipes():
    assert RECIPES
