"""A small real grid: paired, resumed after an interruption, summarized."""

import csv
import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from qfm_iqm.errors import InterruptedRunError, RecipeError
from qfm_iqm.model.folder import load_model
from qfm_iqm.training.ablation import plan, read_runs, run_grid
from qfm_iqm.training.expansion import expand, find_pool
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.trainer import Trainer

SHIPPED = Path(__file__).parents[2] / "recipes"

GRID = """
recipe = "base.toml"
seeds = [0, 1]
references = ["baseline"]
[set]
"train.epochs" = 1
[settings.all]
[settings.half]
"data.train_share" = 0.5
[variants.baseline]
"method.kind" = "baseline"
[variants.taught]
"method.kind" = "qfm"
"method.alpha" = 0.2
"distillation.unlabeled" = "{pool}"
"distillation.teacher" = "{{variant:baseline}}"
"distillation.leaks" = "drop"
"""

BASE = """
[data]
root = "{root}"
labels = "labelled.csv"
group = "subset"
test = 0.4
validation = 0.2
[backbone]
name = "test_vit"
weights = "random"
[network]
crop = 32
[train]
batch_size = 8
device = "cpu"
"""


@pytest.fixture
def grid_file(tmp_path, rated_set, unlabeled_folder):
    (tmp_path / "base.toml").write_text(BASE.format(root=rated_set))
    (tmp_path / "grid.toml").write_text(GRID.format(pool=unlabeled_folder))
    return tmp_path / "grid.toml"


class StopsAfter(Reporter):
    """Asks to stop when a run of that number begins."""

    def __init__(self, number):
        super().__init__(None)
        self.number = number

    def say(self, sentence):
        if sentence.startswith(f"Run {self.number} of"):
            raise InterruptedRunError


def test_a_grid_is_paired_and_goes_on_where_it_was(grid_file, tmp_path):
    out = tmp_path / "runs"
    grid, runs = plan(grid_file, out, [])
    assert [(r.setting, r.seed, r.variant) for r in runs] == [
        (setting, seed, variant)
        for setting in ("all", "half")
        for seed in (0, 1)
        for variant in ("baseline", "taught")
    ]
    with pytest.raises(InterruptedRunError):
        run_grid(grid, runs, out, StopsAfter(4))
    assert len(read_runs(out / "runs.csv")) == 3
    before = (out / "runs.csv").read_text().splitlines()
    comparisons = run_grid(grid, runs, out, Reporter(None))
    assert (out / "runs.csv").read_text().splitlines()[: len(before)] == before
    assert len(read_runs(out / "runs.csv")) == len(runs)

    # The seed decides the split, whatever the variant; the setting decides the labels.
    splits = {run: (run.folder / "split.txt").read_text() for run in runs}
    for run in runs:
        for other in runs:
            assert (splits[run] == splits[other]) == (run.seed == other.seed)

    digests = {run: hashlib.sha256(text.encode()).hexdigest() for run, text in splits.items()}
    rows = read_runs(out / "runs.csv")
    assert [row["split_sha256"] for row in rows] == [digests[run] for run in runs]

    # A setting run again without interruption gives the same figures.
    alone = grid_file.with_name("alone.toml")
    text = grid_file.read_text()
    alone.write_text(text.replace('[settings.half]\n"data.train_share" = 0.5\n', ""))
    again = tmp_path / "again"
    grid_alone, runs_alone = plan(alone, again, [])
    theirs = run_grid(grid_alone, runs_alone, again, Reporter(None))
    assert theirs == [c for c in comparisons if c.setting == "all"]

    # The summary matches the runs' own results.
    for c in comparisons:
        values = {}
        for variant in (c.variant, c.reference):
            values[variant] = []
            for seed in (0, 1):
                with (out / c.setting / f"seed{seed}" / variant / "results.csv").open() as file:
                    rows = csv.DictReader(file)
                    values[variant] += [
                        float(row["value"])
                        for row in rows
                        if (row["subset"], row["metric"]) == (c.subset, c.metric)
                    ]
        own, reference = values[c.variant], values[c.reference]
        assert c.pairs == 2
        assert c.median == pytest.approx(sum(own) / 2)
        assert c.mean_difference == pytest.approx((sum(own) - sum(reference)) / 2)
    parts = {c.subset for c in comparisons}
    assert {"whole", "subset_mean"} < parts

    # The teacher is the baseline's model of the same setting and seed.
    shutil.rmtree(out / "all" / "seed0" / "baseline" / "model")
    assert run_grid(grid, runs, out, Reporter(None)) == comparisons  # nothing runs again

    # Figures of another grid are not reused; variants that are gone are not compared.
    other, planned = plan(grid_file, out, ["method.w_qcc=2"])
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        run_grid(other, planned, out, Reporter(None))
    grid_file.write_text(grid_file.read_text().partition("[variants.taught]")[0])
    left = run_grid(*plan(grid_file, out, []), out, Reporter(None))
    assert left
    assert {comparison.variant for comparison in left} == {"baseline"}


def test_within_a_seed_first_weights_crops_and_order_are_shared(grid_file, tmp_path):
    _, runs = plan(grid_file, tmp_path / "runs", [])
    plain, taught, other_seed = (run.recipe for run in (runs[0], runs[1], runs[2]))
    Trainer(plain, tmp_path / "runs/all/seed0/baseline").run()  # the teacher of the second

    def begun(recipe, name):
        unlabeled = []
        if recipe.distillation.unlabeled is not None:
            (teacher,), pool = recipe.distillation.teacher, (recipe.pool, recipe.pool_root)
            unlabeled = expand(
                find_pool(*pool), load_model(teacher), tmp_path / "unlabeled.csv", Reporter(None)
            )
        trainer = Trainer(recipe, tmp_path / name, unlabeled=unlabeled)
        rated = trainer.data.supervised
        drawn = []
        for epoch in range(2):
            trainer.dataset.epoch = trainer.order.epoch = epoch
            for batch in trainer.order:
                chosen = [index for index in batch if index < rated]
                drawn.append((chosen, torch.stack([trainer.dataset[i][0][0] for i in chosen])))
        return trainer, trainer.model.network.state_dict(), drawn

    (_, weights, drawn), (dle, their_weights, theirs), (_, _, another) = (
        begun(recipe, name)
        for recipe, name in ((plain, "one"), (taught, "two"), (other_seed, "three"))
    )
    assert len(dle.data.samples) > dle.data.supervised
    for key, value in weights.items():
        assert torch.equal(value, their_weights[key]), key
    for (own, crops), (their, their_crops) in zip(drawn, theirs, strict=True):
        assert own == their
        assert torch.equal(crops, their_crops)
    assert [order for order, _ in drawn] != [order for order, _ in another]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('references = ["baseline"]', 'references = ["nobody"]', "reference 'nobody' is not one"),
        ('"method.alpha" = 0.2', '"method.alhpa" = 0.2', "unknown key 'method.alhpa'"),
        ('"data.train_share" = 0.5', '"data.train_share" = 1.5', "data.train_share = 1.5"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
        ("seeds = [0, 1]", "", "seeds"),
        ("[settings.all]", "[settings.all", "cannot be read"),
        ('recipe = "base.toml"', 'recipe = "gone.toml"', "no file"),
        ("{variant:baseline}", "{variant:basline}", r"{variant:basline} must name .*baseline"),
        ("{variant:baseline}", "{variant:taught}", r"{variant:taught} must name .*baseline"),
    ],
)
def test_mistakes_are_told_before_anything_runs(grid_file, tmp_path, old, new, message):
    grid_file.write_text(grid_file.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=message):
        plan(grid_file, tmp_path / "runs", [])
    assert not (tmp_path / "runs").exists()


def test_what_the_call_changes_comes_before_the_grid_and_may_name_a_setting(grid_file, tmp_path):
    changes = ["train.epochs=3", "half:train.epochs=5", "half:data.train_share=0.25"]
    _, runs = plan(grid_file, tmp_path / "runs", changes)
    found = {(run.setting, run.recipe.train.epochs, run.recipe.data.train_share) for run in runs}
    assert found == {("all", 3, 1.0), ("half", 5, 0.25)}
    # The grid, not a change, sets what identifies a run.
    _, runs = plan(grid_file, tmp_path / "runs", ["train.seed=7", "model.name=mine"])
    assert {run.recipe.train.seed for run in runs} == {0, 1}
    assert len({run.recipe.model.name for run in runs}) == len(runs)
    with pytest.raises(RecipeError, match=r"there is no setting 'hlaf' .there are: all, half"):
        plan(grid_file, tmp_path / "runs", ["hlaf:train.epochs=5"])


@pytest.mark.parametrize(
    "name", ["ablation", "ablation_20", "ablation_unlabeled", "protocol", "tuning"]
)
def test_the_grids_that_ship_are_accepted(name, tmp_path):
    for table in ("labelled.csv", "labels.csv", "unlabelled.csv"):
        (tmp_path / table).touch()
    (tmp_path / "cache/tuning_splits").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"cache/tuning_splits/fold{number}.txt").touch()
    changes = [f"data.root={tmp_path}", f"kodak_synthetic:distillation.root={tmp_path}"]
    _, runs = plan(SHIPPED / f"{name}.toml", tmp_path / "runs", changes[: 1 + (name == "ablation")])
    # All variants and settings differ: no run is made twice.
    recipes = {run.recipe.model_copy(update={"model": None}).model_dump_json() for run in runs}
    assert len(recipes) == len(runs)


def test_no_grid(tmp_path):
    with pytest.raises(RecipeError, match="no file"):
        plan(tmp_path / "gone.toml", tmp_path / "runs", [])


def test_options_are_chosen_without_a_look_at_the_test_part(grid_file, tmp_path):
    text = grid_file.read_text().split("[variants.taught]")[0].replace("[settings.half]", "")
    grid_file.write_text('split = "validation"\n' + text.replace('"data.train_share" = 0.5', ""))
    out = tmp_path / "runs"
    grid, runs = plan(grid_file, out, [])
    run_grid(grid, runs[:1], out, Reporter(None))
    (row,) = read_runs(out / "runs.csv")
    assert float(row["srcc:whole"]) == pytest.approx(float(row["validation_srcc"]), abs=1e-12)
    folder = out / "all" / "seed0" / "baseline"
    assert (folder / "validation.csv").is_file()
    assert not (folder / "test.csv").exists()
    assert '"kind": "test"' not in (folder / "log.jsonl").read_text()
