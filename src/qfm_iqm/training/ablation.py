"""Ablation: a grid of settings x variants x seeds, paired, resumable after a kill.

A grid is a TOML file:

    recipe = "biq2021.toml"              # the base, relative to this file
    seeds = [0, 1, 2]                    # for the split, the crops, the order, the initial weights
    references = ["baseline", "random"]  # what every variant is compared with
    split = "validation"                 # for choosing options; the test split stays unseen
    [set]                                # keys of the recipe, for all runs
    "train.epochs" = 4
    [settings.biq2021_20]                # dataset and share of the labels
    "data.train_share" = 0.2
    [variants.baseline]                  # options of the method
    [variants.qfm]
    "method.kind" = "qfm"

All variants with the same seed share the split, the crops and the batch order, so that they differ
only by the method. The text `{variant:NAME}` in a value stands for the model folder of that variant
with the same setting and seed; a baseline can thus be the teacher of other variants.

`runs.csv` has one row per finished run. Finished runs are not repeated; interrupted runs resume.
"""

import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from qfm_iqm.errors import RecipeError
from qfm_iqm.files import writing_text
from qfm_iqm.metrics.paired_runs import Comparison, Run, compare
from qfm_iqm.model.folder import load_card
from qfm_iqm.text_tables import read_dicts, write_csv
from qfm_iqm.training import pipeline
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_file import read_content, read_recipe, validated
from qfm_iqm.training.recipe_schema import Section
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.run_folder import RunFolder
from qfm_iqm.training.selection import SplitName

_FIGURE = re.compile(r"(srcc|plcc):(.+)")


class Grid(Section):
    """A grid of runs; the module docstring shows the file.

    Attributes:
        recipe: path of the base recipe, relative to the grid's file.
        seeds: random seeds; every variant runs once with each.
        references: variants that the others are compared with.
        split: the split that evaluates the runs; the epoch is always selected on "validation".
        set: recipe keys for all runs.
        settings: recipe keys for each setting.
        variants: recipe keys for each variant; the variants run in this order.
    """

    recipe: str
    seeds: list[int] = Field(min_length=1)
    references: list[str] = Field(min_length=1)
    split: SplitName = "test"
    set: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(min_length=1)
    variants: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of the grid.

    Attributes:
        setting: name of the setting.
        variant: name of the variant.
        seed: random seed.
        recipe: the validated recipe.
        folder: the run's folder.
    """

    setting: str
    variant: str
    seed: int
    recipe: Recipe
    folder: Path


def plan(grid_file: Path, out: Path, changes: list[str]) -> tuple[Grid, list[PlannedRun]]:
    """Reads a grid and checks every recipe in it before anything runs.

    Args:
        grid_file: TOML file.
        out: folder for all runs.
        changes: "key=value" for all recipes, as in `qfm train --set`, or "SETTING:key=value" for
            the recipes of one setting.

    Raises:
        RecipeError: the grid or one of its recipes is wrong; names the key.
    """
    grid = validated(Grid, read_content(grid_file), str(grid_file))
    for reference in grid.references:
        if reference not in grid.variants:
            raise RecipeError(
                f"In {grid_file}: the reference '{reference}' is not one of the variants "
                f"({', '.join(grid.variants)})."
            )
    base = grid_file.parent / grid.recipe
    return grid, list(_planned(grid, base, out, _by_setting(grid, changes)))


def run_grid(
    grid: Grid,
    runs: list[PlannedRun],
    out: Path,
    reporter: Reporter,
    *,
    allow_leaks: bool = False,
) -> list[Comparison]:
    """Runs what is missing. Writes `runs.csv` after each run and `summary.csv` at the end.

    Raises:
        RecipeError: a finished run has another recipe.
        TableError: splits share a content or a file, and `allow_leaks` is False.
        InterruptedRunError: a stop was requested; finished runs are kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    table = out / "runs.csv"
    for number, run in enumerate(runs, 1):
        done = {(row["setting"], row["variant"], row["seed"]) for row in read_runs(table)}
        if (run.setting, run.variant, str(run.seed)) in done:
            RunFolder(run.folder, run.recipe, resume=True)  # refuses one of another recipe
            continue
        reporter.say(f"Run {number} of {len(runs)}: {run.setting}, {run.variant}, seed {run.seed}")
        evaluation = pipeline.run(
            run.recipe,
            run.folder,
            resume=True,
            reporter=reporter,
            allow_leaks=allow_leaks,
            split=grid.split,
        )
        row = {"setting": run.setting, "variant": run.variant, "seed": str(run.seed)}
        told = load_card(run.folder / "model").training
        row["split_sha256"] = told["split_sha256"]
        row["best_epoch"] = str(told["best_epoch"])
        row["validation_srcc"] = str(told["validation_srcc"])
        for figure in evaluation.rows:
            if figure.metric in ("srcc", "plcc") and figure.value is not None:
                row[f"{figure.metric}:{figure.subset}"] = repr(figure.value)
        add_row(table, row)
        # Keep the model: later runs may use it as a teacher. Only a resume needs the rest.
        (run.folder / "state.safetensors").unlink(missing_ok=True)
        shutil.rmtree(run.folder / "best", ignore_errors=True)
    return summarize(grid, out)


def summarize(grid: Grid, out: Path) -> list[Comparison]:
    """Compares the grid's finished runs, and writes `summary.csv`."""
    finished = [
        Run(row["setting"], row["variant"], int(row["seed"]), figure[1], figure[2], float(value))
        for row in read_runs(out / "runs.csv")
        if row["setting"] in grid.settings
        and row["variant"] in grid.variants
        and int(row["seed"]) in grid.seeds
        for key, value in row.items()
        if value and (figure := _FIGURE.fullmatch(key))
    ]
    present = {run.variant for run in finished}
    comparisons = compare(finished, [name for name in grid.references if name in present])
    write_csv(out / "summary.csv", Comparison._fields, comparisons)
    return comparisons


def read_runs(table: Path) -> list[dict[str, str]]:
    """The rows of `runs.csv`; none if the file does not exist."""
    return read_dicts(table, "setting", "variant", "seed") if table.is_file() else []


def _by_setting(grid: Grid, changes: list[str]) -> dict[str, list[str]]:
    """The changes to the recipes of each setting."""
    changed: dict[str, list[str]] = {setting: [] for setting in grid.settings}
    for change in changes:
        setting, colon, rest = change.partition(":")
        if not colon or "=" in setting:
            setting, rest = "", change
        elif setting not in grid.settings:
            raise RecipeError(
                f"--set {change}: there is no setting '{setting}' "
                f"(there are: {', '.join(grid.settings)})."
            )
        for name in [setting] if setting else grid.settings:
            changed[name].append(rest)
    return changed


def _planned(
    grid: Grid, base: Path, out: Path, changes: dict[str, list[str]]
) -> Iterator[PlannedRun]:
    for setting, of_setting in grid.settings.items():
        for seed in grid.seeds:
            for number, (variant, of_variant) in enumerate(grid.variants.items()):
                folder = out / setting / f"seed{seed}"
                keys = grid.set | of_setting | of_variant
                before = list(grid.variants)[:number]
                filled = {key: _filled(value, folder, before) for key, value in keys.items()}
                own = [
                    f"data.split_seed={seed}",
                    f"train.seed={seed}",
                    f'model.name="{setting}-{variant}-{seed}"',
                ]
                recipe = read_recipe(base, [*changes[setting], *own], values=filled)
                recipe = recipe.without_finishing()
                yield PlannedRun(setting, variant, seed, recipe, folder / variant)


def _filled(value: Any, folder: Path, before: list[str]) -> Any:
    """Replaces `{variant:NAME}` in a text by the model folder of that variant's run."""
    if not isinstance(value, str):
        return value

    def model(name: re.Match[str]) -> str:
        if name[1] not in before:
            raise RecipeError(
                f"{name[0]} must name an earlier variant: {', '.join(before) or 'there is none'}."
            )
        return str(folder / name[1] / "model")

    return re.sub(r"\{variant:([^}]+)\}", model, value)


def add_row(table: Path, row: dict[str, str]) -> None:
    """Adds a run to the table atomically, with new columns for groups it did not have yet."""
    rows = [*read_runs(table), row]
    columns = list(dict.fromkeys(key for one in rows for key in one))
    with writing_text(table) as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
