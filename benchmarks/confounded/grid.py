"""All runs of the experiment: paired, resumable, and distributed over processes.

    DIR/recipe.json   the recipe of the runs
    DIR/tokens/       tokens of the frozen backbone
    DIR/clusters.csv  the photos of both clusters
    DIR/runs.csv      one row per finished run
    DIR/options.csv   the best trial of each variant
    DIR/lock          the process that makes a run locks one byte

A run is the unit of writing, of loss by a kill, and of work for a process. Starting the same
command twice uses two processes. Trials are measured only on validation; in the table they are the
settings `trial1`, `trial2` ...
"""

import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from confounded.config import ConfoundingRecipe, Setting, Trial
from confounded.photos import best_rated, choose_photos, usable_cells
from confounded.rules import VARIANTS
from confounded.run import test_figures, train, validation_srcc
from confounded.tasks import (
    Task,
    degraded_crops,
    degraded_task,
    human_crops,
    human_photos,
    human_task,
    sheets_of,
)
from confounded.tokens import Sheet, TokenStore
from qfm_iqm.errors import RecipeError
from qfm_iqm.files import write_whole
from qfm_iqm.model.backbone import build_encoder
from qfm_iqm.model.weights import backbone_state
from qfm_iqm.scoring.locks import LockFile
from qfm_iqm.text_tables import write_csv
from qfm_iqm.training.ablation import add_row, read_runs
from qfm_iqm.training.reporting import Reporter

MARKS = ("recipe.json", "runs.csv")  # identify the folder; the first is written before any work
_TABLE = 0  # byte of the lock for writing a table
Tasks = Callable[[Setting, int], Task]
Run = tuple[str, str, int]  # setting, variant, seed


@dataclass(frozen=True, eq=False)
class Experiment:
    """The data shared by all runs.

    Attributes:
        recipe: recipe of the experiment.
        out: folder of the experiment.
        state: weights of the backbone.
        task: returns the task of a setting and a seed.
        ends: files of each cluster's photos, farthest from the other cluster first.
    """

    recipe: ConfoundingRecipe
    out: Path
    state: dict[str, Tensor] | None
    task: Tasks
    ends: tuple[list[Path], list[Path]]


def prepare(recipe: ConfoundingRecipe, out: Path, reporter: Reporter) -> Experiment:
    """Chooses the photos and computes all missing tokens.

    Raises:
        RecipeError: the folder holds runs of another recipe.
        QFMError: photos, ratings or weights cannot be used.
    """
    cells = usable_cells(recipe)
    state = backbone_state(recipe.weights, recipe.backbone)
    out.mkdir(parents=True, exist_ok=True)
    _keep_recipe(recipe, out)
    torch.manual_seed(0)  # so that weights = "random" are the same in each process
    encoder: torch.nn.Module = build_encoder(recipe.backbone, crop=recipe.crop, state=state)  # type: ignore[assignment]
    store = TokenStore(
        out / "tokens", encoder, side=recipe.side, crop=recipe.crop, grid=recipe.grid
    )

    def fill(sheets: list[Sheet], title: str) -> None:
        for _ in reporter.scoring(store.fill(sheets), len(sheets), title):
            pass

    names, paths = best_rated(recipe)
    pool = [Sheet(path) for path in paths]
    fill(pool, "tokens of the pool")
    semantics_PD = store.load(pool)[:, 0].float().numpy()
    photos = choose_photos(recipe, names, paths, semantics_PD, list(cells.levels))
    columns = ("name", "cluster", "place", "validation", "kinds")
    rows = (
        (p.name, "AB"[p.cluster], p.place, int(p.validation), ", ".join(p.kinds)) for p in photos
    )
    write_csv(out / "clusters.csv", columns, rows)
    fill(sheets_of(photos, cells), "tokens of degraded photos")
    degraded = degraded_crops(photos, cells, store, recipe)
    human = None
    if recipe.human is not None:
        table = human_photos(recipe)
        fill([Sheet(path) for path in table.paths(recipe.root)], "tokens of the twin")
        human = human_crops(table, recipe, store)

    def task(setting: Setting, seed: int) -> Task:
        if setting.rho is None:
            assert human is not None
            return human_task(human, recipe, seed)
        return degraded_task(degraded, photos, recipe, setting.rho, seed)

    far = sorted(photos, key=lambda photo: -abs(photo.place))
    ends = ([p.path for p in far if p.cluster == 0], [p.path for p in far if p.cluster == 1])
    return Experiment(recipe, out, state, task, ends)


def run_all(experiment: Experiment, reporter: Reporter, only: list[str] | None = None) -> None:
    """Runs what is missing: first the trials, then the settings.

    Args:
        experiment: the prepared experiment.
        reporter: reports each run.
        only: names of settings to run; None for all.
    """
    recipe = experiment.recipe
    (experiment.out / "lock").touch()
    lock = LockFile(experiment.out / "lock")
    try:
        trials = {
            f"trial{number}": Setting(
                rho=recipe.tuning.rho, seeds=recipe.tuning.seeds, further=True
            )
            for number in range(1, len(recipe.trials) + 1)
        }
        _make(experiment, trials, None, lock, reporter)
        chosen = choose_options(recipe, experiment.out)
        with lock.held(_TABLE):
            rows = [(name, *trial.model_dump().values()) for name, trial in chosen.items()]
            write_csv(experiment.out / "options.csv", ("variant", *Trial.model_fields), rows)
        settings = {k: s for k, s in recipe.settings.items() if only is None or k in only}
        _make(experiment, settings, chosen, lock, reporter)
    finally:
        lock.close()


def choose_options(recipe: ConfoundingRecipe, out: Path) -> dict[str, Trial]:
    """The trial of each variant with the highest mean validation SRCC; among equals, the first."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in read_runs(out / "runs.csv"):
        if row["setting"].startswith("trial"):
            values = found.setdefault((row["variant"], row["setting"]), [])
            values.append(float(row["validation_srcc"]))
    return {
        variant: max(
            enumerate(recipe.trials, 1),
            key=lambda trial: float(np.mean(found[variant, f"trial{trial[0]}"])),
        )[1]
        for variant in VARIANTS
    }


def _planned(settings: dict[str, Setting]) -> Iterator[Run]:
    """Yields all runs, seed by seed in each setting, so that pairs are completed early."""
    for name, setting in settings.items():
        for seed in setting.seeds:
            for variant in setting.taken:
                yield name, variant, seed


def _make(
    experiment: Experiment,
    settings: dict[str, Setting],
    chosen: dict[str, Trial] | None,
    lock: LockFile,
    reporter: Reporter,
) -> None:
    """Runs what is missing, and waits for the runs of other processes."""
    table = experiment.out / "runs.csv"
    planned = list(_planned(settings))

    def missing() -> list[Run]:
        done = {(row["setting"], row["variant"], int(row["seed"])) for row in read_runs(table)}
        return [run for run in planned if run not in done]

    tasks: dict[tuple[str, int], Task] = {}
    while left := missing():
        taken = False
        for run in left:
            byte = _byte(run)
            if not lock.try_acquire(byte):
                continue
            try:
                if run in missing():
                    name, _, seed = run
                    if (name, seed) not in tasks:
                        tasks = {(name, seed): experiment.task(settings[name], seed)}
                    number = len(planned) - len(missing()) + 1
                    reporter.say(f"Run {number} of {len(planned)}: {', '.join(map(str, run))}")
                    row = _run(experiment, settings[name], run, chosen, tasks[name, seed])
                    with lock.held(_TABLE):
                        add_row(table, row)
                    taken = True
            finally:
                lock.release(byte)
        if not taken and (left := missing()):  # others do the rest: wait for the first run
            with lock.held(_byte(left[0])):
                pass


def _byte(run: Run) -> int:
    """The byte of the lock file for a run."""
    return 1 + zlib.crc32("/".join(map(str, run)).encode())


def _run(
    experiment: Experiment,
    setting: Setting,
    run: Run,
    chosen: dict[str, Trial] | None,
    task: Task,
) -> dict[str, str]:
    """Makes a run and returns its row."""
    name, variant, seed = run
    recipe, began = experiment.recipe, time.monotonic()
    adapted = None
    if chosen is None:
        options = recipe.trials[int(name.removeprefix("trial")) - 1]
    else:
        changes = {"alpha": setting.alpha, "epochs": setting.epochs}
        changes = {key: value for key, value in changes.items() if value is not None}
        options = chosen[variant].model_copy(update=changes)
        if setting.adapters is not None:
            adapted = recipe, experiment.state, setting.adapters
    network = train(
        task, variant, options, seed=seed, batch_size=recipe.batch_size, adapted=adapted
    )
    row = {"setting": name, "variant": variant, "seed": str(seed)}
    row |= {key: repr(value) for key, value in options.model_dump().items()}
    if len(task.validation):
        row["validation_srcc"] = repr(validation_srcc(network, task))
    if chosen is not None:
        alpha = setting.alpha or chosen["qfm"].alpha
        row |= {key: repr(value) for key, value in test_figures(network, task, alpha).items()}
    return row | {"seconds": f"{time.monotonic() - began:.1f}"}


def _keep_recipe(recipe: ConfoundingRecipe, out: Path) -> None:
    """Writes the recipe, or refuses a folder with runs of another one.

    Settings, seeds and variants may be added, and paths may change.
    """

    def told(content: dict[str, object], settings: set[str]) -> dict[str, object]:
        own = {k: v for k, v in content.items() if k not in ("root", "cells", "weights")}
        each = content["settings"]
        assert isinstance(each, dict)
        own["settings"] = {
            name: {k: v for k, v in each[name].items() if k not in ("seeds", "variants", "further")}
            for name in sorted(settings)
        }
        return own

    file = out / "recipe.json"
    now = json.loads(recipe.model_dump_json())
    if file.is_file():
        before = json.loads(file.read_text("utf-8"))
        common = before["settings"].keys() & now["settings"].keys()
        if told(before, common) != told(now, common):
            raise RecipeError(f"{out} holds runs of another recipe: give another folder.")
        now["settings"] = before["settings"] | now["settings"]
    write_whole(json.dumps(now, indent=2) + "\n", file)
