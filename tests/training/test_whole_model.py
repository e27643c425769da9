"""A whole model from one recipe: kills change nothing; a change redoes the stages after it."""

import json
import re
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.errors import ImageError, RecipeError, TableError
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.runtimes import export
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.training import pipeline
from qfm_iqm.training.data import load_data
from qfm_iqm.training.pseudo_labels import read_pseudo_labels
from qfm_iqm.training.recipe_file import read_recipe
from qfm_iqm.training.reporting import Reporter

SILENT = Reporter(None)

# `qfm train` that kills itself when a stage has begun, or when it is done.
KILLED = """
import signal
from qfm_iqm.training.stages import Stages

stage, moment = {stage!r}, {moment!r}
begin, end = Stages.begin, Stages.end

def beginning(self, name, inputs):
    state = begin(self, name, inputs)
    if (name, moment) == (stage, "begins"):
        os.kill(os.getpid(), signal.SIGKILL)
    return state

def ending(self, name, outputs):
    if (name, moment) == (stage, "ends"):  # its files are there, and not in the record
        os.kill(os.getpid(), signal.SIGKILL)
    end(self, name, outputs)

Stages.begin, Stages.end = beginning, ending
"""

STAGES = [
    "teachers/first", "teachers/second", "pseudo_labels/one", "pseudo_labels/two", "training",
    "test", "reference", "card",
]  # fmt: skip
FINISHING = """
[reference]
labels = "reference.csv"
level = 0.8
[card]
"""


@pytest.fixture(scope="module")
def photos(rated_set, unlabeled_folder, tmp_path_factory):
    """The rated set, a folder of unlabeled photos in it, and 100 small photos for the reference."""
    root = shutil.copytree(rated_set, tmp_path_factory.mktemp("photos") / "root")
    shutil.copytree(unlabeled_folder, root / "unlabeled")
    draw = np.random.default_rng(3)
    lines = ["name,mos"]
    for number in range(100):
        cells = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(cells).resize((40, 40), Image.Resampling.BICUBIC)
        image.save(root / f"reference{number:03d}.png")
        lines.append(f"reference{number:03d}.png,{draw.uniform(20, 80):.2f}")
    (root / "reference.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def recipe(photos, recipe_content, write_recipe, tmp_path_factory):
    """A recipe file of a whole model without exports: two teachers, two tables."""
    content = recipe_content(
        data__root=str(photos),
        method__kind="qfm",
        train__epochs=1,
        train__crops_per_image=1,
    )
    path = write_recipe(content, tmp_path_factory.mktemp("recipes") / "whole.toml")
    with path.open("a") as file:
        file.write(
            """
            [teachers.first]
            [teachers.second.set]
            method.kind = "baseline"
            train.seed = 5
            [pseudo_labels.one]
            teacher = "first"
            images = "unlabeled"
            [pseudo_labels.two]
            teacher = "second"
            images = "unlabeled"
            leaks = "drop"
            """
            + FINISHING
        )
    return path


@pytest.fixture(scope="module")
def exporting(photos, recipe_content, write_recipe, tmp_path_factory):
    """A recipe file of a plain network, its export and its card."""
    content = recipe_content(data__root=str(photos), train__epochs=1, train__crops_per_image=1)
    path = write_recipe(content, tmp_path_factory.mktemp("recipes") / "exporting.toml")
    with path.open("a") as file:
        file.write(FINISHING + '[export]\nonnx = ["fp32"]\n')
    return path


def record(out):
    return json.loads((out / "stages.json").read_text())["stages"]


def model_files(out):
    """The finished model."""
    names = ("model/model.safetensors", "model/card.json", "results.csv", "test.csv", "card.md")
    return {name: (out / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """An undisturbed build."""
    out = tmp_path_factory.mktemp("whole") / "run"
    pipeline.run(read_recipe(recipe), out, resume=False, reporter=SILENT)
    return out


def test_the_record_names_every_stage_with_hashes(whole):
    stages = record(whole)
    assert list(stages) == STAGES
    for name, stage in stages.items():
        hashes = [*stage["inputs"].values(), *stage["outputs"].values()]
        assert stage["outputs"], name
        assert all(len(text) == 64 for text in hashes if text != "random"), name
    training = stages["training"]["inputs"]
    outputs = stages["pseudo_labels/two"]["outputs"]
    assert training["two"] == outputs["pseudo_labels/two.csv"]
    assert set(record(whole / "teachers" / "first")) == {"training", "test"}


def test_the_finished_model_is_whole(whole, photos):
    model = load_model(whole / "model")
    card = model.card
    assert card.reference_statistics.population == "reference.csv"
    assert card.reference_statistics.interval.level == 0.8
    assert {row.data for row in card.results} == {"noisy scenes (test split)"}
    told = card.training["recipe"]
    assert told["teachers"]["second"]["method"]["kind"] == "baseline"
    assert told["pseudo_labels"]["two"] == {"teacher": "second", "images": "unlabeled"}
    assert str(photos) not in json.dumps(told)
    assert (whole / "card.md").read_text("utf-8").startswith("# whole\n")
    # Teachers never saw the test split.
    for name in ("first", "second"):
        teacher = load_model(whole / "teachers" / name / "model").card
        assert {row.data for row in teacher.results} == {"noisy scenes (validation split)"}
        assert teacher.training["split_sha256"] == card.training["split_sha256"]


def test_each_teacher_scored_the_crops_of_its_table(whole):
    rows = {}
    for name, teacher in (("one", "first"), ("two", "second")):
        file = whole / "pseudo_labels" / f"{name}.csv"
        rows[name], _ = read_pseudo_labels(file)
        facts = json.loads(file.read_text("utf-8").splitlines()[0].removeprefix("# "))
        card = load_model(whole / "teachers" / teacher / "model").card
        assert facts["teacher"] == card.weights_sha256
        assert len({row.name for row in rows[name]}) == 20
    places = [[(row.name, row.top, row.left) for row in found] for found in rows.values()]
    assert places[0] == places[1]
    assert [row.score for row in rows["one"]] != [row.score for row in rows["two"]]
    samples = load_model(whole / "model").card.training["samples"]
    assert samples == 24 + 2 * len(rows["one"])


@pytest.mark.parametrize(
    ("stage", "moment"),
    [
        ("pseudo_labels/two", "begins"),
        ("training", "ends"),
        ("test", "ends"),
        ("reference", "ends"),
    ],
)
def test_killed_in_any_stage_it_ends_with_the_same_model(
    whole, recipe, tmp_path, forked, stage, moment
):
    """The killed run's work is copied from the whole one: the record up to that stage."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    kept = record(out)
    done = STAGES[: STAGES.index(stage)]
    content = {"format": 1, "stages": {name: kept[name] for name in done}}
    (out / "stages.json").write_text(json.dumps(content))
    dying = KILLED.format(stage=stage, moment=moment)
    code, _, said = forked.run("train", recipe, "--out", out, "--resume", before=dying)
    assert code == -signal.SIGKILL, said
    assert "outputs" not in record(out)[stage]
    pipeline.run(read_recipe(recipe), out, resume=True, reporter=SILENT)
    assert model_files(out) == model_files(whole)
    assert record(out) == kept


def test_a_finished_build_is_not_done_again(whole, recipe, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    done = pipeline.run(read_recipe(recipe), out, resume=True, reporter=SILENT)
    assert done.value("whole", "srcc") is not None
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"recipe.json", "split.txt", "stages.json"}
    with pytest.raises(RecipeError, match="already holds a run: continue with --resume"):
        pipeline.run(read_recipe(recipe), out, resume=False, reporter=SILENT)


@pytest.mark.parametrize(
    ("changes", "redone"),
    [
        (["teachers.second.set.train.seed=6"],
         {"teachers/second", "pseudo_labels/two", *STAGES[4:]}),
        (["reference.level=0.9"], {"reference", "card"}),
        (["card.page=PAGE"], {"card"}),
    ],
)  # fmt: skip
def test_a_change_redoes_just_what_depends_on_it(whole, recipe, tmp_path, changes, redone):
    out = shutil.copytree(whole, tmp_path / "run")
    changes = [change.replace("PAGE", str(tmp_path / "page.md")) for change in changes]
    before = record(out)
    pipeline.run(read_recipe(recipe, changes), out, resume=True, reporter=SILENT)
    after = record(out)
    assert {name for name in after if after[name]["inputs"] != before[name]["inputs"]} == redone
    assert set(after) == set(before)


def test_an_export_is_redone_with_what_it_is_made_of(exporting, tmp_path, monkeypatch):
    out = tmp_path / "run"
    pipeline.run(read_recipe(exporting), out, resume=False, reporter=SILENT)
    before = record(out)
    assert list(before) == ["training", "test", "reference", "export", "card"]
    assert load_runtime(out / "model").name == "onnx"  # on a CPU, the export in the folder
    # The network is the same and need not be converted again.
    kept = shutil.copy(out / "model" / "onnx" / "model.onnx", tmp_path)

    def copied(_, file, *__):
        shutil.copy(kept, file)
        return ()

    monkeypatch.setattr(export, "write_onnx", copied)
    changed = read_recipe(exporting, ["reference.level=0.9"])
    pipeline.run(changed, out, resume=True, reporter=SILENT)
    after = record(out)
    redone = {name for name in after if after[name]["inputs"] != before[name]["inputs"]}
    assert redone == {"reference", "export", "card"}
    assert load_runtime(out / "model").card.reference_statistics.interval.level == 0.9


def test_reference_photos_are_checked_before_training(recipe, photos, tmp_path):
    names = [line.split(",")[0] for line in (photos / "labelled.csv").read_text().splitlines()[1:]]
    table = tmp_path / "reference.csv"
    for rows, sentence in (
        ((photos / "reference.csv").read_text().splitlines()[1:100], "[reference] has 99"),
        (
            (photos / "reference.csv").read_text().splitlines()[1:]
            + [f"{name},50" for name in names],
            "used for training or selection",
        ),
    ):
        table.write_text("\n".join(["name,mos", *rows]) + "\n")
        changed = read_recipe(recipe, [f"reference.labels={table}"])
        with pytest.raises(TableError, match=re.escape(sentence)):
            pipeline.run(changed, tmp_path / "run", resume=False, reporter=SILENT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("which", ["test", "reference"])
def test_photos_that_are_scored_last_are_decoded_first(exporting, photos, tmp_path, which):
    root = shutil.copytree(photos, tmp_path / "photos")
    changed = read_recipe(exporting, [f"data.root={root}"])
    names = {"test": load_data(changed).split.names("test"), "reference": ["reference007.png"]}
    broken = root / names[which][0]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ImageError, match=f"cannot read .*{re.escape(broken.name)}"):
        pipeline.run(changed, tmp_path / "run", resume=False, reporter=SILENT)
    assert not (tmp_path / "run").exists()


def test_a_damaged_table_is_made_again(whole, recipe, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    with (out / "pseudo_labels" / "one.csv").open("a") as file:
        file.write("more\n")
    pipeline.run(read_recipe(recipe), out, resume=True, reporter=SILENT)
    assert model_files(out) == model_files(whole)


def test_a_changed_label_trains_anew(whole, recipe, photos, tmp_path):
    root = shutil.copytree(photos, tmp_path / "photos")
    out = shutil.copytree(whole, tmp_path / "run")
    table = root / "labelled.csv"
    lines = table.read_text().splitlines()
    name = load_model(out / "model") and json.dumps(str(root))
    row = next(i for i, line in enumerate(lines) if line.startswith(_train_name(out)))
    cells = lines[row].split(",")
    cells[1] = f"{float(cells[1]) + 1:.3f}"
    lines[row] = ",".join(cells)
    table.write_text("\n".join(lines) + "\n")
    pipeline.run(read_recipe(recipe, [f"data.root={name}"]), out, resume=True, reporter=SILENT)
    assert (
        model_files(out)["model/model.safetensors"] != model_files(whole)["model/model.safetensors"]
    )


def _train_name(out):
    lines = (out / "split.txt").read_text().splitlines()
    return next(line.split("\t")[1] for line in lines if line.startswith("train\t"))


def test_a_pool_that_leaks_is_refused_before_any_teacher(recipe, photos, whole, tmp_path):
    pool = tmp_path / "pool.csv"
    lines = (whole / "split.txt").read_text().splitlines()
    held = next(line.split("\t")[1] for line in lines if line.startswith("test\t"))
    pool.write_text(f"name\n{held}\n")
    changes = [f"pseudo_labels.one.images={pool}"]
    with pytest.raises(TableError, match="take them out of the pool"):
        pipeline.run(read_recipe(recipe, changes), tmp_path / "run", resume=False, reporter=SILENT)
    assert not (tmp_path / "run" / "teachers").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("pseudo_labels.two.teacher=first", "nothing uses teachers.second: leave it out"),
        ("pseudo_labels.two.teacher=third", "no section [teachers.third]"),
        ("pseudo_labels.two.images=gone", "there is no gone"),
        ("data.reference=0.2", "needs either data.reference or reference.labels"),
        ("reference.labels=gone.csv", "reference.labels: there is no file gone.csv"),
        ("model.packed=true", "model.packed needs backbone.tune = 'adapters'"),
        ("card.speed=gone.csv", "card.speed: there is no file gone.csv"),
        ("teachers.first.epochs=3", "unknown key 'teachers.first.epochs'"),
        ("teachers.first.set.train.epoch=3", "unknown key 'teachers.first.recipe.train.epoch'"),
    ],
)
def test_what_does_not_fit_together_is_refused(recipe, change, sentence):
    with pytest.raises(RecipeError) as refused:
        read_recipe(recipe, [change])
    assert sentence in str(refused.value)


def test_photos_are_refused_where_no_export_has_use_for_them(exporting):
    with pytest.raises(RecipeError, match=r"export\.photos has no effect without int8"):
        read_recipe(exporting, ["export.photos=unlabeled"])
