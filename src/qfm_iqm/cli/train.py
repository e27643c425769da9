"""`qfm train`: a rated set in, a trained network out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.evaluate import show_evaluation
from qfm_iqm.cli.options import AllowLeaks, Dataset, extra, messages

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.training.data import TrainingData


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe: TOML.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a key: --set train.epochs=4. May be repeated."),
    ] = None,
    dataset: Dataset = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/NAME.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option(help="Also write the test figures to this CSV.")
    ] = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Train a network by a recipe, select on validation, test once."""
    from qfm_iqm.files import check_output, copy_whole
    from qfm_iqm.training.recipe_file import read_recipe

    console = messages()
    checked = read_recipe(recipe, changes or (), dataset=dataset)
    if results is not None:
        check_output(results, ".csv")
    folder = out if out is not None else Path("runs") / checked.model.name
    with extra("train", "Training"):
        from qfm_iqm.training.pipeline import prepare
        from qfm_iqm.training.reporting import Reporter
        from qfm_iqm.training.state import InterruptedRunError
    try:
        trainer = prepare(
            checked, folder, resume=resume, reporter=Reporter(console), allow_leaks=allow_leaks
        )
        first = trainer.accelerator.is_main_process  # of several, it alone speaks
        if first:
            _announce(trainer.data, console)
        evaluation = trainer.run()
    except (InterruptedRunError, KeyboardInterrupt):
        console.print(
            f"Interrupted. Go on with the same command and --resume ({folder}).",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    if not first:
        return
    show_evaluation(evaluation, console)
    if results is not None:
        copy_whole(folder / "results.csv", results)
    best = trainer.selection.best
    console.print(
        f"Best epoch by validation: {best['epoch'] + 1}. Model: {folder / 'model'}",
        markup=False,
        soft_wrap=True,
    )


def _announce(data: TrainingData, console: Console) -> None:
    """Says what is trained on."""
    unrated = len(data.samples) - data.supervised
    console.print(
        f"{data.supervised} crops an epoch, "
        f"{0 if data.validation is None else len(data.validation)} validation and "
        f"{len(data.test)} test images; labels {data.label_mean:.4f} +- {data.label_std:.4f}"
        + f"; {data.left_out} pseudo-labels of held-out contents left out" * bool(data.left_out)
        + f"; {unrated} unrated images" * bool(unrated),
        markup=False,
        soft_wrap=True,
    )
