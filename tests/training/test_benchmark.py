import csv
import json
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from qfm_iqm.datasets.folds import write_folds
from qfm_iqm.datasets.splits import Split, split_by_content
from qfm_iqm.errors import RecipeError, TableError
from qfm_iqm.model.card import read_card
from qfm_iqm.training.benchmark import (
    PlannedFold,
    check_leaks,
    plan_benchmark,
    run_benchmark,
    write_tables,
)
from qfm_iqm.training.data import rated_split
from qfm_iqm.training.pipeline import refuse_shared, run
from qfm_iqm.training.recipe_file import check_recipe, read_recipe
from qfm_iqm.training.reporting import Reporter

SILENT = Reporter(None)


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory, recipe_content, write_recipe):
    content = recipe_content(train__epochs=2, train__crops_per_image=2, data__group="subset")
    return write_recipe(content, tmp_path_factory.mktemp("recipes") / "scenes.toml")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folds_are_numbered_splits_and_seeds(recipe_file, tmp_path):
    plan = plan_benchmark(
        recipe_file,
        tmp_path,
        protocol="test-selected",
        folds=3,
        shares=(0.5, 1.0),
        changes=["train.lr=1e-3"],
    )
    assert [(fold.setting, fold.number) for fold in plan] == [
        (setting, number) for setting in ("50%", "all") for number in range(3)
    ]
    for fold in plan:
        assert fold.recipe.data.split_seed == fold.recipe.train.seed == fold.number
        assert fold.recipe.data.train_share == (0.5 if fold.setting == "50%" else 1)
        assert fold.recipe.protocol == "test-selected"
        assert not fold.recipe.train.warmup_prefix
        assert fold.recipe.train.lr == 1e-3
    assert len({fold.folder for fold in plan}) == 6
    assert (
        len(plan_benchmark(recipe_file, tmp_path, protocol="validation-selected", folds=None)) == 10
    )


def test_the_authors_split_is_one_run_unless_folds_are_asked_for(
    official_trees, recipe_content, write_recipe, tmp_path
):
    content = recipe_content()
    content["data"] = {"root": str(official_trees["koniq10k"][0]), "dataset": "koniq10k"}
    file = write_recipe(content, tmp_path / "koniq.toml")
    (only,) = plan_benchmark(file, tmp_path / "out", protocol="test-selected", folds=None)
    assert only.recipe.data.split == "official"
    assert only.recipe.network.squeeze == (512, 384)
    folds = plan_benchmark(file, tmp_path / "out", protocol="validation-selected", folds=2)
    assert [fold.recipe.data.split for fold in folds] == ["content"] * 2
    assert folds[0].recipe.network.squeeze is None
    split = tmp_path / "split.txt"
    split.write_text(Split(("a",), ("b",), ("c",), "by hand").to_text())
    changes = ['data.split="file"', f'data.split_file="{split}"']
    assert (
        len(
            plan_benchmark(
                file, tmp_path, protocol="validation-selected", folds=None, changes=changes
            )
        )
        == 1
    )
    with pytest.raises(RecipeError, match="one fold: leave --folds out"):
        plan_benchmark(file, tmp_path, protocol="validation-selected", folds=2, changes=changes)


def test_impossible_folds_and_shares_are_refused(recipe_file, tmp_path):
    with pytest.raises(RecipeError, match="at least 1, not 0"):
        plan_benchmark(recipe_file, tmp_path, protocol="validation-selected", folds=0)
    for shares in ((0.0, 1.0), (1.2,), (0.5, 0.5)):
        with pytest.raises(RecipeError, match="above 0 and at most 1, each given once"):
            plan_benchmark(
                recipe_file, tmp_path, protocol="validation-selected", folds=1, shares=shares
            )


@pytest.mark.parametrize(
    "change",
    ["data.split_seed=7", "train.seed=3", "data.train_share=0.5", "protocol=test-selected",
     "train.warmup_prefix=false"],
)  # fmt: skip
def test_what_a_benchmark_sets_itself_cannot_be_set(recipe_file, tmp_path, change):
    """Otherwise all folds would be the same, or one protocol would pass for the other."""
    with pytest.raises(RecipeError, match=f"^--set {change.partition('=')[0]} is not allowed here"):
        plan_benchmark(
            recipe_file, tmp_path, protocol="validation-selected", folds=2, changes=[change]
        )


def test_the_habits_of_the_literature_cannot_be_set_either(
    official_trees, recipe_content, write_recipe, tmp_path
):
    content = recipe_content()
    content["data"] = {"root": str(official_trees["koniq10k"][0]), "dataset": "koniq10k"}
    file = write_recipe(content, tmp_path / "koniq.toml")
    changes = ["network.shorter_side=64"]
    plan_benchmark(file, tmp_path, protocol="validation-selected", folds=2, changes=changes)
    with pytest.raises(RecipeError, match=r"--set network\.shorter_side is not allowed here"):
        plan_benchmark(file, tmp_path, protocol="test-selected", folds=2, changes=changes)


def test_each_share_has_a_folder_of_its_own_and_leaves_images(recipe_file, tmp_path):
    def planned(*shares):
        return plan_benchmark(
            recipe_file, tmp_path, protocol="validation-selected", folds=1, shares=shares
        )

    plan = planned(0.25, 0.254, 0.255, 1.0)
    assert [fold.setting for fold in plan] == ["25%", "25.4%", "25.5%", "all"]
    assert len({fold.folder for fold in plan}) == 4
    with pytest.raises(RecipeError, match="must have different names, not 50%, 50%"):
        planned(0.5, 0.50000001)
    with pytest.raises(TableError, match=r"share of 0\.2 % of the 24 training"):
        planned(0.002)


def test_a_benchmark_runs_and_is_not_run_again(recipe_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    plan = plan_benchmark(recipe_file, out, protocol="test-selected", folds=2)
    summaries = run_benchmark(plan, out, SILENT)
    figures = rows_of(out / "figures.csv")
    for fold in plan:
        card = read_card(fold.folder / "model/card.json")
        digest = card.training["split_sha256"]
        assert Split.from_text((fold.folder / "split.txt").read_text()).sha256 == digest
        own = [row for row in figures if row["fold"] == str(fold.number)]
        assert {row["split_sha256"] for row in own} == {digest}
        assert {row["split_sha256"] for row in rows_of(fold.folder / "results.csv")} == {digest}
        results = {
            (r["subset"], r["metric"]): r["value"] for r in rows_of(fold.folder / "results.csv")
        }
        selected = {
            (row["subset"], row["metric"]): row["value"]
            for row in own
            if row["protocol"] == "validation-selected"
        }
        assert selected == {key: value for key, value in results.items() if value}
        log = [json.loads(line) for line in (fold.folder / "log.jsonl").read_text().splitlines()]
        best = max(entry["whole/srcc"] for entry in log if entry["kind"] == "test-selected")
        (best_row,) = [
            row for row in own
            if (row["protocol"], row["subset"], row["metric"]) == ("test-selected", "whole", "srcc")
        ]  # fmt: skip
        assert float(best_row["value"]) == best
        assert best_row["images"] == str(card.training["images"]["test"])
    digests = {row["split_sha256"] for row in figures}
    assert len(digests) == 2
    assert {(one.protocol, one.folds) for one in summaries} == {
        ("validation-selected", 2),
        ("test-selected", 2),
    }
    text = (out / "summary.md").read_text()
    assert "| all | test-selected (optimistic) | whole | 2 |" in text

    before = {path: path.stat().st_mtime_ns for path in out.rglob("model/*")}
    run_benchmark(plan, out, SILENT)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model/*")} == before
    # Runs of another recipe, or of other data, are refused.
    options = {"protocol": "test-selected", "folds": 2}
    plan_benchmark(recipe_file, out, **options)
    for other in (
        options | {"changes": ["train.epochs=1"]},
        options | {"protocol": "validation-selected"},
    ):
        with pytest.raises(RecipeError, match="holds a run of another recipe"):
            plan_benchmark(recipe_file, out, **other)
    root = shutil.copytree(plan[0].recipe.data.root, tmp_path / "moved")
    moved = options | {"changes": [f"data.root={root}"]}
    plan_benchmark(recipe_file, out, **moved)
    table = (root / "labelled.csv").read_text().splitlines(keepends=True)
    (root / "labelled.csv").write_text("".join(table[:-4]))
    with pytest.raises(RecipeError, match="holds a run with other images"):
        plan_benchmark(recipe_file, out, **moved)
    # A lost fold is run again, with the same figures on a CPU.
    shutil.rmtree(plan[1].folder)
    assert len({row["fold"] for row in _written(plan, out)}) == 1
    run_benchmark(plan, out, SILENT)
    assert rows_of(out / "figures.csv") == figures


def test_a_run_that_selects_nothing_gives_no_validation_selected_figure(recipe_file, tmp_path):
    changes = ["data.validation=0", "train.epochs=1"]
    with pytest.raises(RecipeError, match="which only protocol = 'test-selected' allows"):
        plan_benchmark(
            recipe_file, tmp_path, protocol="validation-selected", folds=1, changes=changes
        )
    plan = plan_benchmark(recipe_file, tmp_path, protocol="test-selected", folds=1, changes=changes)
    summaries = run_benchmark(plan, tmp_path, SILENT)
    assert {one.protocol for one in summaries} == {"test-selected"}
    (row,) = [row for row in rows_of(tmp_path / "figures.csv")
              if (row["subset"], row["metric"]) == ("whole", "srcc")]  # fmt: skip
    assert row["images"] == "8"


def test_a_folder_of_splits_is_a_fold_each(recipe_file, tmp_path):
    table, _ = rated_split(read_recipe(recipe_file))
    made = [split_by_content(table, test=0.2, validation=0.2, seed=seed) for seed in (7, 8)]
    write_folds(made, tmp_path / "theirs")
    changes = ['data.split="file"', f'data.split_file="{tmp_path / "theirs"}"']
    options = {"protocol": "validation-selected", "changes": [*changes, "train.epochs=1"]}
    out = tmp_path / "out"
    plan = plan_benchmark(recipe_file, out, folds=None, **options)
    assert [rated_split(fold.recipe)[1] for fold in plan] == made
    assert len(plan_benchmark(recipe_file, out, folds=1, **options)) == 1
    with pytest.raises(RecipeError, match=r"--folds is 3, but .*theirs holds 2 folds"):
        plan_benchmark(recipe_file, out, folds=3, **options)
    run_benchmark(plan, out, SILENT)
    digests = {split.sha256 for split in made}
    assert {row["split_sha256"] for row in rows_of(out / "figures.csv")} == digests
    (tmp_path / "theirs/fold0.txt").unlink()
    with pytest.raises(RecipeError, match=r"data\.split_file: there is no file"):
        plan_benchmark(recipe_file, out, folds=None, **options)


def _written(plan, out):
    write_tables(plan, out)
    return rows_of(out / "figures.csv")


# Leaks


@pytest.fixture
def folds(rated_set, recipe_content, tmp_path):
    """Two folds over a copy of the rated set, which a test may damage."""
    root = shutil.copytree(rated_set, tmp_path / "leaky")
    plan = []
    for number in (0, 1):
        content = recipe_content(data__split_seed=number)
        content["data"]["root"] = str(root)
        recipe = check_recipe(content | {"model": {"name": "leaky"}})
        plan.append(PlannedFold("all", number, recipe, tmp_path / f"fold{number}"))
    return plan


def spoil(recipe):
    """Makes a test image the same file as a training image."""
    split, root = rated_split(recipe)[1], recipe.data.root
    shutil.copy(root / split.train[0], root / split.test[0])


def test_leaks_stop_what_is_planned_before_it_trains(folds, tmp_path, capsys):
    out = tmp_path / "out"
    assert check_leaks(folds, out, SILENT, allow=False) == []
    spoil(folds[0].recipe)
    # Compared folds are not compared again, so that resuming loses no time.
    assert check_leaks(folds, out, SILENT, allow=False) == []
    (out / "leaks.checked").unlink()
    with pytest.raises(TableError, match=r"leak between splits.*leaks\.csv; --allow-leaks"):
        check_leaks(folds, out, SILENT, allow=False)
    found = rows_of(out / "leaks.csv")
    assert ("0", "file") in {(row["fold"], row["reason"]) for row in found}
    leaks = check_leaks(folds, out, Reporter(Console(stderr=True)), allow=True)
    assert len(leaks) == len(found)
    assert f"{len(leaks)} pairs of images leak" in capsys.readouterr().err
    with pytest.raises(TableError, match="leak between splits"):  # allowed only for that call
        check_leaks(folds, out, SILENT, allow=False)


def test_only_the_folds_asked_for_count(folds, tmp_path):
    one, other = (rated_split(recipe)[1] for recipe in (fold.recipe for fold in folds))
    # A pair that fold 0 separates, and that fold 1 has in its training split.
    train, test = (sorted(set(one.names(split)) & set(other.train)) for split in ("train", "test"))
    root = folds[0].recipe.data.root
    shutil.copy(root / train[0], root / test[0])
    out = tmp_path / "out"
    assert {leak.fold for leak in check_leaks(folds, out, SILENT, allow=True)} == {0}
    assert check_leaks(folds[1:], out, SILENT, allow=False) == []


def test_another_folder_of_images_is_looked_at(folds, tmp_path):
    out = tmp_path / "out"
    assert check_leaks(folds, out, SILENT, allow=False) == []
    root = shutil.copytree(folds[0].recipe.data.root, tmp_path / "moved")
    moved = []
    for fold in folds:
        data = fold.recipe.data.model_copy(update={"root": root})
        moved.append(replace(fold, recipe=fold.recipe.model_copy(update={"data": data})))
    spoil(moved[0].recipe)
    with pytest.raises(TableError, match="leak between splits"):
        check_leaks(moved, out, SILENT, allow=False)


def test_a_run_refuses_splits_that_share_a_file_or_a_content(folds, tmp_path):
    recipe = folds[0].recipe
    refuse_shared(recipe)
    spoil(recipe)
    with pytest.raises(
        TableError, match=r"1 pairs .* between splits \(1 by file\): .*; --allow-leaks"
    ):
        run(recipe, tmp_path / "run", resume=False, reporter=SILENT)
    assert not (tmp_path / "run").exists()
    run(recipe, tmp_path / "run", resume=False, reporter=SILENT, allow_leaks=True)


def test_a_split_from_a_file_that_tears_a_content_is_refused(folds, tmp_path):
    text = rated_split(folds[0].recipe)[1].to_text()
    moved = next(line for line in text.splitlines() if line.startswith("test"))
    file = tmp_path / "torn.txt"
    file.write_text(text.replace(moved, moved.replace("test", "train", 1)))
    update = {"split": "file", "split_file": file}
    data = folds[0].recipe.data.model_copy(update=update)
    with pytest.raises(TableError, match=r"3 pairs .*\(3 by content\)"):
        refuse_shared(folds[0].recipe.model_copy(update={"data": data}))
