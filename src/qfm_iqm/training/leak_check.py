"""Leaks between the splits of a run: looked for before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qfm_iqm.datasets.part_leaks import (
    PartLeak,
    file_prints,
    find_part_leaks,
    image_prints,
    read_part_leaks,
    refuse_part_leaks,
    write_part_leaks,
)
from qfm_iqm.files import write_whole
from qfm_iqm.training.data import rated_split, rated_table, split_of
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.reporting import Reporter

REMEDY = "--allow-leaks goes on all the same"


def refuse_shared(recipe: Recipe) -> None:
    """Refuses splits that share a content or a file: what can be told without decoding an image.

    Near-duplicates are left to `qfm data split` and to benchmarks, which look at every pixel.

    Raises:
        TableError: splits share something; or a table or file cannot be read.
    """
    table, split = rated_split(recipe)
    prints = file_prints(table.paths(recipe.data.root))
    refuse_part_leaks(find_part_leaks(table, split, prints), remedy=REMEDY)


def check_leaks(
    recipes: Mapping[int, Recipe], out: Path, reporter: Reporter, *, allow: bool
) -> list[PartLeak]:
    """Looks for images that a split shows of another, in every fold, before anything is trained.

    Lists them in `leaks.csv` under `out`. Folds that were looked at, in the same folder of images,
    are not looked at again.

    Args:
        recipes: by number of the fold; all of one dataset.
        out: folder of all runs.
        reporter: shows progress.
        allow: go on all the same, and say how many there are.

    Raises:
        TableError: there are leaks, and `allow` is False.
    """
    first = next(iter(recipes.values()))
    table = rated_table(first)
    splits = {fold: split_of(recipe, table) for fold, recipe in recipes.items()}
    out.mkdir(parents=True, exist_ok=True)
    listed, seen = out / "leaks.csv", out / "leaks.checked"
    wanted = [str(first.data.root.resolve())]
    wanted += [f"{fold} {split.sha256}" for fold, split in splits.items()]
    if seen.is_file() and set(wanted) <= set(seen.read_text("utf-8").splitlines()):
        leaks = [leak for leak in read_part_leaks(listed) if leak.fold in splits]
    else:
        paths = table.paths(first.data.root)
        reporter.say(f"Comparing {len(paths)} images between the splits of {len(splits)} folds.")
        prints = image_prints(
            paths, progress=lambda hashes, total: reporter.scoring(hashes, total, "hashing")
        )
        leaks = [
            leak
            for fold, split in splits.items()
            for leak in find_part_leaks(table, split, prints, fold=fold)
        ]
        write_part_leaks(leaks, listed)
        write_whole("\n".join(wanted) + "\n", seen)
    if not allow:
        refuse_part_leaks(leaks, listed, remedy=REMEDY)
    if leaks:
        reporter.say(f"{len(leaks)} pairs of images leak between splits: {listed}")
    return leaks
