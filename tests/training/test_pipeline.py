"""Teacher, unlabeled images, student: a run killed anywhere ends with the same bytes."""

import csv
import io
import json
import os
import shutil
import signal

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.errors import ImageError, QFMError, RecipeError, TableError
from qfm_iqm.model.folder import load_card, load_model
from qfm_iqm.training.data import load_data
from qfm_iqm.training.expansion import find_pool, without_leaks
from qfm_iqm.training.pipeline import run
from qfm_iqm.training.recipe_file import read_recipe
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.teaching import baseline_recipe
from qfm_iqm.training.trainer import Trainer

SILENT = Reporter(None)
STEPS = 12  # of teacher and student each: two epochs of 24 photos x 2 crops in batches of 8

# `qfm train` that kills itself: after the n-th step of teacher and student together, or when it
# has written n pseudo-labels.
KILLED = """
import signal
from qfm_iqm.training.reporting import Reporter

step_left, label_left = {step}, {label}

def step(self, loss, crops):
    global step_left
    step_left -= 1
    if step_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def scoring(self, items, total, title="scoring"):
    for number, item in enumerate(items):
        if total == 20 and number == label_left:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

Reporter.step, Reporter.scoring = step, scoring
"""


@pytest.fixture(scope="module")
def recipe(recipe_content, write_recipe, unlabeled_folder, tmp_path_factory):
    """A recipe file with unlabeled images."""
    content = recipe_content(
        method__kind="qfm",
        method__w_pl=0.5,
        method__top_k=2,
        train__epochs=2,
        train__crops_per_image=2,
        distillation__unlabeled=str(unlabeled_folder),
    )
    return write_recipe(content, tmp_path_factory.mktemp("recipes") / "pipeline.toml")


def qfm_train(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """An undisturbed run; its folder and output."""
    out = tmp_path_factory.mktemp("pipeline") / "run"
    done = qfm_train(recipe, "--out", out)
    assert done.exit_code == 0, done.stderr
    return out, done.stderr


@pytest.fixture
def pool_changes(unlabeled_folder, tmp_path):
    """A copy of the unlabeled images, and the change of the recipe that names it."""
    folder = shutil.copytree(unlabeled_folder, tmp_path / "pool")
    return folder, [f"distillation.unlabeled={folder}"]


@pytest.fixture
def taught(finished):
    """The change of the recipe that names the finished run's teacher."""
    return f"distillation.teacher={finished[0] / 'teachers' / 'baseline' / 'model'}"


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


def table(path):
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def leak_free(recipe, out, reporter=SILENT):
    config = recipe.distillation
    return without_leaks(
        find_pool(recipe.pool, recipe.pool_root), load_data(recipe), out / "leaks.csv", reporter,
        drop=config.leaks == "drop",
    )  # fmt: skip


def cli_options(changes):
    return [part for change in changes for part in ("--set", change)]


# What a run leaves


def test_a_run_writes_its_folder(finished):
    out, said = finished
    assert {path.name for path in out.iterdir()} == {
        "teachers", "expansion.csv", "leaks.csv", "recipe.json", "split.txt", "log.jsonl",
        "state.safetensors", "best", "model", "results.csv", "test.csv", "stages.json", "lock",
    }  # fmt: skip
    assert (out / "leaks.csv").read_text() == "fold,split,image,other_split,other,reason,distance\n"
    assert (out / "split.txt").read_bytes() == (
        out / "teachers" / "baseline" / "split.txt"
    ).read_bytes()
    rows = table(out / "expansion.csv")
    assert len(rows) == len({row["score"] for row in rows}) == 20
    for sentence in (
        "Comparing 20 unlabeled with 16 held-out images.",
        f"Teacher baseline, in {out / 'teachers' / 'baseline'}.",
        "48 crops an epoch, 8 validation and 8 test images",
        "; 20 unlabeled images",
        "The memory of 64 entries takes 40.8 KiB when full.",
    ):
        assert sentence in said
    training = load_model(out / "model").card.training
    assert (training["samples"], training["unlabeled"]) == (48, 20)


def test_the_teacher_is_the_plain_baseline_of_the_same_recipe(finished, recipe, tmp_path):
    plain = baseline_recipe(read_recipe(recipe))
    assert (plain.method.kind, plain.distillation.unlabeled) == ("baseline", None)
    Trainer(plain, tmp_path / "run").run()
    assert weights(tmp_path / "run") == weights(finished[0] / "teachers" / "baseline")
    assert weights(finished[0]) != weights(tmp_path / "run")
    assert (
        load_model(finished[0] / "teachers" / "baseline" / "model").card.name == "pipeline-teacher"
    )


def test_pseudo_labels_are_what_qfm_score_says_of_the_teacher(finished, unlabeled_folder, tmp_path):
    teacher = finished[0] / "teachers" / "baseline" / "model"
    done = CliRunner().invoke(
        app,
        ["score", str(unlabeled_folder), "--model", str(teacher), "-o", str(tmp_path / "s.csv")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    rows = table(finished[0] / "expansion.csv")
    scores = {row["path"]: float(row["score"]) for row in table(tmp_path / "s.csv")}
    labels = {str(unlabeled_folder / row["name"]): float(row["score"]) for row in rows}
    assert labels == pytest.approx(scores, abs=1e-5 * 22)


# Killed and resumed


@pytest.mark.parametrize(
    ("stage", "step", "label"),
    [("teacher", 9, -1), ("pseudo-labels", 0, 7), ("student", STEPS + 9, -1)],
)
def test_killed_anywhere_it_ends_with_the_same_bytes(
    finished, recipe, tmp_path, forked, stage, step, label
):
    whole, out = finished[0], tmp_path / "run"
    dying = KILLED.format(step=step, label=label)
    code, _, said = forked.run("train", recipe, "--out", out, before=dying)
    assert code == -signal.SIGKILL, said
    names = {path.name for path in out.iterdir()}
    assert ("expansion.csv" in names) == (stage != "teacher")
    assert ("state.safetensors" in names) == (stage == "student")
    assert (out / "teachers" / "baseline" / "state.safetensors").exists()
    assert (out / "teachers" / "baseline" / "model").exists() == (stage != "teacher")
    cuts = [None]
    if stage == "pseudo-labels":
        assert len(table(out / "expansion.csv")) == 7
        cuts += [9, 60]  # bytes: half of a line
    for cut in cuts:
        again = shutil.copytree(out, tmp_path / f"again{cut}")
        if cut:
            content = (again / "expansion.csv").read_bytes()
            (again / "expansion.csv").write_bytes(content[:-cut])
        refused = qfm_train(recipe, "--out", again)
        assert isinstance(refused.exception, RecipeError)
        assert "already holds a run: continue with --resume" in str(refused.exception)
        resumed = qfm_train(recipe, "--out", again, "--resume")
        assert resumed.exit_code == 0, resumed.output
        assert weights(again) == weights(whole)
        for name in ("expansion.csv", "results.csv", "test.csv"):
            assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_an_interruption_of_the_teacher_says_how_to_go_on(recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def step(self, loss, crops):
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "step", step)
        done = qfm_train(recipe, "--out", out)
    assert done.exit_code == 130
    assert "Interrupted: continue with the same command and --resume" in done.stderr
    assert not (out / "expansion.csv").exists()


@pytest.mark.parametrize(
    "change", ["method.tau=0.3", "train.lr=1e-4", "distillation.share=1", "method.w_pl=1"]
)
def test_another_recipe_does_not_go_on(finished, recipe, change):
    done = qfm_train(recipe, "--out", finished[0], "--resume", "--set", change)
    assert isinstance(done.exception, RecipeError)
    assert "holds a run of another recipe" in str(done.exception)


def test_a_changed_image_is_scored_again_and_the_student_trained_anew(
    recipe, tmp_path, taught, pool_changes
):
    folder, changes = pool_changes
    checked = read_recipe(recipe, [*changes, taught])
    run(checked, tmp_path / "run", resume=False, reporter=SILENT)
    before = table(tmp_path / "run" / "expansion.csv")
    image = folder / "unlabeled05.jpg"
    Image.open(image).rotate(180).save(image)
    console = Console(file=io.StringIO(), width=200)
    run(checked, tmp_path / "run", resume=True, reporter=Reporter(console))
    after = table(tmp_path / "run" / "expansion.csv")
    changed = [row["name"] for row, old in zip(after, before, strict=True) if row != old]
    assert changed == ["unlabeled05.jpg"]
    said = console.file.getvalue()
    assert "The stage expansion is repeated, because these have changed: images." in said
    assert "The stage training is repeated, because these have changed: expansion." in said
    run(checked, tmp_path / "again", resume=False, reporter=SILENT)
    assert weights(tmp_path / "run") == weights(tmp_path / "again")


# The pool


def test_a_table_of_unlabeled_images_gives_their_contents(
    recipe, rated_set, unlabeled_folder, tmp_path, taught
):
    rows = [
        (unlabeled_folder / f"unlabeled{i:02d}.jpg", "one" if i < 4 else "two") for i in range(1, 7)
    ]
    pool = tmp_path / "pool.csv"
    with pool.open("w", newline="") as file:
        csv.writer(file).writerows([("name", "content"), *rows])
    changes = [f"distillation.unlabeled={pool}", taught]
    done = qfm_train(recipe, "--out", tmp_path / "run", *cli_options(changes))
    assert done.exit_code == 0, done.output
    assert "; 6 unlabeled images" in done.stderr
    assert not (tmp_path / "run" / "teachers").exists()


@pytest.mark.parametrize("cached", [False, True])
def test_an_unreadable_image_is_listed_and_left_out(recipe, tmp_path, taught, pool_changes, cached):
    folder, changes = pool_changes
    if cached:
        kept = f"train.feature_cache={tmp_path / 'features'}"
        changes = [*changes, "backbone.tune=none", "train.fixed_crops=2", "train.cache=false", kept]
    (folder / "broken.jpg").write_bytes(b"no image")
    console = Console(file=io.StringIO(), width=80)
    checked = read_recipe(recipe, [*changes, taught])
    run(checked, tmp_path / "run", resume=False, reporter=Reporter(console))
    assert "unlabeled image broken.jpg is left out: " in console.file.getvalue()
    assert load_card(tmp_path / "run" / "model").training["unlabeled"] == 20
    assert table(tmp_path / "run" / "expansion.csv")[0]["error"]
    (folder / "empty.png").touch()
    with pytest.raises(TableError, match=r"2 of 22 unlabeled images cannot be read"):
        run(checked, tmp_path / "run", resume=True, reporter=SILENT)


def test_an_empty_folder_is_refused(recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    done = qfm_train(
        recipe, "--out", tmp_path / "run",
        "--set", f"distillation.unlabeled={tmp_path / 'empty'}",
    )  # fmt: skip
    assert isinstance(done.exception, QFMError)
    assert "There is no image in" in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_copy_of_a_held_out_image_is_refused_or_dropped(
    recipe, rated_set, tmp_path, pool_changes, part
):
    folder, changes = pool_changes
    # The first level of a scene: the others are too noisy to recognize.
    split = load_data(read_recipe(recipe)).split
    name = next(name for name in split.names(part) if name.endswith("level0.jpg"))
    copy = folder / "copy.png"
    Image.open(rated_set / name).resize((80, 80), Image.Resampling.LANCZOS).save(copy)
    out = tmp_path / "run"
    done = qfm_train(recipe, "--out", out, *cli_options(changes))
    assert isinstance(done.exception, TableError)
    assert f"{copy} (unlabeled) ~ {rated_set / name} ({part})" in str(done.exception)
    assert not (out / "teachers").exists()  # before hours of training
    pairs = {(row["image"], row["other"]) for row in table(out / "leaks.csv")}
    assert (str(copy), str(rated_set / name)) in pairs
    assert {image for image, _ in pairs} == {str(copy)}
    assert len(pairs) == len(table(out / "leaks.csv"))  # each pair once

    dropping = read_recipe(recipe, [*changes, "distillation.leaks=drop"])
    console = Console(file=io.StringIO(), width=80)
    left = leak_free(dropping, out, Reporter(console))
    assert len(left.names) == 20
    assert "copy.png" not in left.names
    assert "1 unlabeled images leak and are left out: " in console.file.getvalue()
    assert {(row["image"], row["other"]) for row in table(out / "leaks.csv")} == pairs


def test_a_copy_of_a_training_image_is_no_leak(recipe, rated_set, tmp_path, pool_changes):
    folder, changes = pool_changes
    name = load_data(read_recipe(recipe)).split.names("train")[0]
    Image.open(rated_set / name).save(folder / "copy.png")
    checked = read_recipe(recipe, changes)
    assert len(leak_free(checked, tmp_path / "run").names) == 21


def test_a_held_out_content_or_name_leaks_whatever_it_shows(
    recipe, rated_set, unlabeled_folder, tmp_path
):
    data = load_data(read_recipe(recipe))
    content, name = data.test.contents[0], data.validation.names[0]
    pool = tmp_path / "pool.csv"
    with pool.open("w", newline="") as file:
        csv.writer(file).writerows([
            ("name", "content"),
            (unlabeled_folder / "unlabeled01.jpg", content),
            (unlabeled_folder / "unlabeled02.jpg", "new"),
            (unlabeled_folder / "unlabeled03.jpg", name),
        ])  # fmt: skip
    changes = [f"distillation.unlabeled={pool}", "distillation.leaks=drop"]
    checked = read_recipe(recipe, changes)
    left = leak_free(checked, tmp_path / "run")
    assert left.names == (str(unlabeled_folder / "unlabeled02.jpg"),)


def test_a_held_out_image_that_cannot_be_compared_is_refused_before_the_teacher(
    recipe, rated_set, tmp_path
):
    root = shutil.copytree(rated_set, tmp_path / "photos")
    name = load_data(read_recipe(recipe)).split.names("test")[0]
    (root / name).write_bytes(b"no image")
    done = qfm_train(recipe, "--out", tmp_path / "run", "--set", f"data.root={root}")
    assert isinstance(done.exception, ImageError)
    assert name in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_an_image_that_leaks_by_name_and_by_sight_is_listed_once(recipe, rated_set, tmp_path):
    name = load_data(read_recipe(recipe)).split.names("test")[0]
    pool = tmp_path / "pool.csv"
    pool.write_text(f"name\n{name}\n")
    checked = read_recipe(recipe, [f"distillation.unlabeled={pool}"])
    with pytest.raises(TableError):
        leak_free(checked, tmp_path / "run")
    rows = [tuple(row.values()) for row in table(tmp_path / "run" / "leaks.csv")]
    path = str(rated_set / name)
    assert ("0", "unlabeled", path, "test", path, "content", "0") in rows
    assert len(rows) == len({row[:5] for row in rows})


def test_a_pool_of_leaks_alone_is_refused(recipe, rated_set, tmp_path):
    pool = tmp_path / "pool.csv"
    names = load_data(read_recipe(recipe)).split.names("test")
    pool.write_text("name\n" + "".join(f"{name}\n" for name in names))
    checked = read_recipe(recipe, [f"distillation.unlabeled={pool}", "distillation.leaks=drop"])
    with pytest.raises(TableError, match=r"All 8 unlabeled images leak .*: none are left"):
        leak_free(checked, tmp_path / "run")


# The teacher, and what can be refused early


def test_a_per_step_teacher_learns_nothing_and_teaches(recipe, tmp_path, taught):
    checked = read_recipe(recipe, [taught, "distillation.per_step=true"])
    run(checked, tmp_path / "run", resume=False, reporter=SILENT)
    other = read_recipe(recipe, [taught])
    run(other, tmp_path / "images", resume=False, reporter=SILENT)
    assert weights(tmp_path / "run") != weights(tmp_path / "images")


def test_several_per_step_teachers_teach_their_mean(
    recipe_content, write_recipe, recipe, tmp_path, finished
):
    baseline = str(finished[0] / "teachers" / "baseline" / "model")
    whole = {"backbone__name": "efficientnet_lite0_stages", "network__width": 32}
    # It scores crops of 48 pixels and longer ones, so it can teach crops of any size.
    whole |= {"network__crop": 48, "network__max_aspect": 2.0, "train__epochs": 1}
    other = write_recipe(recipe_content(**whole), tmp_path / "other.toml")
    found = {}
    for name, names in (("one", baseline), ("alone", [baseline]), ("two", [baseline, "other"])):
        changes = [f"distillation.teacher={json.dumps(names)}", "distillation.per_step=true"]
        if name == "two":
            changes.append(f"teachers.other.recipe={other}")
        done = qfm_train(recipe, "--out", tmp_path / name, *cli_options(changes))
        assert done.exit_code == 0, done.stderr
        found[name] = weights(tmp_path / name)
    assert found["one"] == found["alone"] != found["two"]


def test_a_teacher_of_other_units_is_refused(recipe, tmp_path, taught):
    done = qfm_train(
        recipe, "--out", tmp_path / "run", *cli_options([taught, "data.label.name=DMOS"])
    )
    assert isinstance(done.exception, RecipeError)
    assert "The teacher " in str(done.exception)
    assert "a teacher must predict in the units of the labels" in str(done.exception)


def test_a_teacher_of_another_split_of_the_same_data_is_refused(recipe, tmp_path, taught):
    done = qfm_train(recipe, "--out", tmp_path / "run", *cli_options([taught, "data.split_seed=7"]))
    assert isinstance(done.exception, RecipeError)
    assert "was trained on another split of the same data" in str(done.exception)


def test_a_per_step_teacher_of_another_crop_is_refused(recipe, tmp_path, tiny_model_folder):
    changes = [f"distillation.teacher={tiny_model_folder}", "distillation.per_step=true"]
    done = qfm_train(recipe, "--out", tmp_path / "run", *cli_options(changes))
    assert isinstance(done.exception, RecipeError)
    assert "needs a teacher with crops of 32 pixels" in str(done.exception)
    assert "takes 48" in str(done.exception)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("method.memory=1000000000000", "method.memory = 1000000000000 needs"),
        ("network.heads=5", "network.heads"),
        ("data.validation=0.05", "validation split"),
    ],
)
def test_what_the_student_cannot_do_is_refused_before_the_teacher(
    recipe, tmp_path, change, sentence
):
    done = qfm_train(recipe, "--out", tmp_path / "run", "--set", change)
    assert isinstance(done.exception, QFMError)
    assert sentence in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_is_refused(recipe, tmp_path):
    (tmp_path / "file").touch()
    done = qfm_train(recipe, "--out", tmp_path / "file" / "run")
    assert isinstance(done.exception, TableError)
    assert f"cannot be written: {tmp_path / 'file'} is not a folder" in str(done.exception)


def test_training_starts_from_a_teacher_of_the_recipe(recipe_content, write_recipe, tmp_path):
    first = write_recipe(recipe_content(train__epochs=1), tmp_path / "first.toml")
    content = recipe_content(train__epochs=1, train__lr=1e-12, backbone__weights="teachers.first")
    second = write_recipe(content, tmp_path / "second.toml")
    out = tmp_path / "run"
    done = qfm_train(second, "--out", out, "--set", f"teachers.first.recipe={first.name}")
    assert done.exit_code == 0, done.stderr
    start = load_model(out / "teachers" / "first" / "model")
    model = load_model(out / "model")
    assert model.card.training["started_from"] == (
        f"second-first, weights {start.card.weights_sha256}"
    )
    for key, tensor in model.network.state_dict().items():
        torch.testing.assert_close(tensor, start.network.state_dict()[key], atol=1e-6, rtol=0)


def test_a_start_may_take_larger_crops_than_a_per_step_teacher(
    recipe_content, write_recipe, unlabeled_folder, tmp_path, taught
):
    whole = {"network__crop": 48, "backbone__name": "efficientnet_lite0_stages"}
    whole |= {"network__width": 32, "train__epochs": 1, "train__crops_per_image": 1}
    first = write_recipe(recipe_content(**whole), tmp_path / "first.toml")
    content = recipe_content(
        **whole,
        train__crop=32,
        method__kind="qfm",
        method__w_pl=0.5,
        backbone__weights="teachers.first",
        distillation__unlabeled=str(unlabeled_folder),
    )
    changes = [taught, "distillation.per_step=true", f"teachers.first.recipe={first.name}"]
    second = write_recipe(content, tmp_path / "second.toml")
    done = qfm_train(second, "--out", tmp_path / "run", *cli_options(changes))
    assert done.exit_code == 0, done.stderr


def test_a_share_of_the_start_is_kept(recipe_content, write_recipe, tmp_path):
    first = write_recipe(recipe_content(train__epochs=1), tmp_path / "first.toml")
    run = qfm_train(first, "--out", tmp_path / "first")
    assert run.exit_code == 0, run.stderr
    start, found = tmp_path / "first" / "model", {}
    for share in (0.0, 0.75):
        content = recipe_content(
            train__epochs=1, train__start_share=share, backbone__weights=str(start)
        )
        out = tmp_path / f"share{share}"
        done = qfm_train(write_recipe(content, tmp_path / f"{share}.toml"), "--out", out)
        assert done.exit_code == 0, done.stderr
        found[share] = load_model(out / "model").network.state_dict()
    before = load_model(start).network.state_dict()
    moved = 0.0
    for key, kept in found[0.75].items():
        expected = 0.75 * before[key] + 0.25 * found[0.0][key]
        torch.testing.assert_close(kept, expected, atol=1e-6, rtol=1e-4)
        moved = max(moved, float((found[0.0][key] - before[key]).abs().max()))
    assert moved > 1e-3  # else the test shows nothing


def test_a_share_of_no_model_is_refused(recipe, tmp_path):
    done = qfm_train(recipe, "--out", tmp_path / "run", "--set", "train.start_share=0.5")
    assert isinstance(done.exception, QFMError)
    assert "train.start_share has no effect without a model to start from" in str(done.exception)


def test_a_start_that_is_not_there_is_refused(recipe, tmp_path):
    done = qfm_train(recipe, "--out", tmp_path / "run", "--set", "backbone.weights=teachers.gone")
    assert isinstance(done.exception, QFMError)
    assert "there is no section [teachers.gone]" in str(done.exception)
