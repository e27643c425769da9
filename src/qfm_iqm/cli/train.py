"""`qfm train`: trains a complete model from a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import (
    AllowLeaks,
    Changes,
    Dataset,
    Recipe,
    RunOut,
    extra,
    interruptible,
    messages,
    say,
)
from qfm_iqm.cli.showing import show_evaluation
from qfm_iqm.files import check_distinct, check_folder, check_output, copy_whole

# A folder with any of these, which a run writes first, is a run's folder.
MARKS = ("recipe.json", "stages.json", "teachers", "pseudo_labels", "leaks.csv", "model")


def train(
    recipe: Recipe,
    changes: Changes = None,
    dataset: Dataset = None,
    out: RunOut = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in that folder.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="Also write the test figures to this CSV.")
    ] = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Build a model from a recipe: teachers, training, one test, reference statistics, exports."""
    from qfm_iqm.model.folder import load_card
    from qfm_iqm.training.recipe_file import read_recipe

    console = messages()
    checked = read_recipe(recipe, changes or (), dataset=dataset)
    if results is not None:
        check_output(results, ".csv")
    labels = checked.data.labels
    check_distinct({"--results": results}, [labels and checked.table(labels)])
    folder = out if out is not None else Path("runs") / checked.model.name
    check_folder(folder, MARKS, "a run folder")
    with extra("train", "Training"):
        from accelerate import PartialState

        from qfm_iqm.training.pipeline import run
        from qfm_iqm.training.reporting import Reporter
    with interruptible(console, f"continue with the same command and --resume ({folder})."):
        evaluation = run(
            checked, folder, resume=resume, reporter=Reporter(console), allow_leaks=allow_leaks
        )
    if not PartialState().is_main_process:  # only the first process prints
        return
    show_evaluation(evaluation, console)
    if results is not None:
        copy_whole(folder / "results.csv", results)
    best = load_card(folder / "model").training["best_epoch"]
    say(console, f"Best epoch by validation: {best}. Model: {folder / 'model'}")
