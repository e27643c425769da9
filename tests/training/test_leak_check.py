import csv
import shutil

import pytest
from rich.console import Console

from qfm_iqm.errors import TableError
from qfm_iqm.training.data import rated_split
from qfm_iqm.training.leak_check import check_leaks, refuse_shared
from qfm_iqm.training.pipeline import run
from qfm_iqm.training.recipe_file import check_recipe
from qfm_iqm.training.reporting import Reporter

SILENT = Reporter(None)


@pytest.fixture
def folds(rated_set, recipe_content, tmp_path):
    """Recipes of two folds over a copy of the rated set, which a test may spoil."""
    root = shutil.copytree(rated_set, tmp_path / "leaky")
    recipes = {}
    for number in (0, 1):
        content = recipe_content(data__split_seed=number)
        content["data"]["root"] = str(root)
        recipes[number] = check_recipe(content)
    return recipes


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def spoil(recipe):
    """Makes a test image the same file as a training image."""
    split, root = rated_split(recipe)[1], recipe.data.root
    shutil.copy(root / split.train[0], root / split.test[0])


def test_leaks_stop_what_is_planned_before_it_trains(folds, tmp_path, capsys):
    out = tmp_path / "out"
    assert check_leaks(folds, out, SILENT, allow=False) == []
    spoil(folds[0])
    # What was looked at is not looked at again: a benchmark that goes on loses no time.
    assert check_leaks(folds, out, SILENT, allow=False) == []
    (out / "leaks.checked").unlink()
    with pytest.raises(TableError, match=r"leak between parts of .*leaks\.csv; --allow-leaks goes"):
        check_leaks(folds, out, SILENT, allow=False)
    found = rows_of(out / "leaks.csv")
    assert ("0", "file") in {(row["fold"], row["reason"]) for row in found}
    leaks = check_leaks(folds, out, Reporter(Console(stderr=True)), allow=True)
    assert len(leaks) == len(found)
    assert f"{len(leaks)} pairs of images leak" in capsys.readouterr().err
    with pytest.raises(TableError, match="leak between parts"):  # once allowed is not for ever
        check_leaks(folds, out, SILENT, allow=False)


def test_only_the_folds_asked_for_count(folds, tmp_path):
    one, other = (rated_split(recipe)[1] for recipe in folds.values())
    # A pair that fold 0 parts, and fold 1 has in its training part.
    train, test = (sorted(set(one.part(part)) & set(other.train)) for part in ("train", "test"))
    root = folds[0].data.root
    shutil.copy(root / train[0], root / test[0])
    out = tmp_path / "out"
    assert {leak.fold for leak in check_leaks(folds, out, SILENT, allow=True)} == {0}
    assert check_leaks({1: folds[1]}, out, SILENT, allow=False) == []


def test_another_folder_of_images_is_looked_at(folds, tmp_path):
    out = tmp_path / "out"
    assert check_leaks(folds, out, SILENT, allow=False) == []
    root = shutil.copytree(folds[0].data.root, tmp_path / "moved")
    moved = {
        number: recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": root})})
        for number, recipe in folds.items()
    }
    spoil(moved[0])
    with pytest.raises(TableError, match="leak between parts"):
        check_leaks(moved, out, SILENT, allow=False)


def test_a_run_refuses_parts_that_share_a_file_or_a_content(folds, tmp_path):
    recipe = folds[0]
    refuse_shared(recipe)
    spoil(recipe)
    with pytest.raises(TableError, match=r"1 pairs .* of fold 0 \(1 by file\): .*; --allow-leaks"):
        run(recipe, tmp_path / "run", resume=False, reporter=SILENT)
    assert not (tmp_path / "run").exists()
    run(recipe, tmp_path / "run", resume=False, reporter=SILENT, allow_leaks=True)


def test_a_split_from_a_file_that_tears_a_content_is_refused(folds, tmp_path):
    text = rated_split(folds[0])[1].to_text()
    moved = next(line for line in text.splitlines() if line.startswith("test"))
    file = tmp_path / "torn.txt"
    file.write_text(text.replace(moved, moved.replace("test", "train", 1)))
    update = {"split": "file", "split_file": file}
    data = folds[0].data.model_copy(update=update)
    with pytest.raises(TableError, match=r"3 pairs .*\(3 by content\)"):
        refuse_shared(folds[0].model_copy(update={"data": data}))
