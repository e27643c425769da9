"""`qfm cross`: a model trained on one dataset, tested on others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import (
    AllowLeaks,
    Dataset,
    Device,
    check_device,
    extra,
    messages,
    with_progress,
)

if TYPE_CHECKING:
    from qfm_iqm.evaluation.cross_dataset import CrossFigure
    from qfm_iqm.model.model import QualityModel


def cross(
    source: Annotated[str, typer.Argument(help="A recipe (.toml) to train by, or a model.")],
    targets: Annotated[
        list[str], typer.Argument(help="NAME=ROOT of a dataset, or a table beside its images.")
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the recipe.")
    ] = None,
    dataset: Dataset = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run. Default: runs/NAME.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Write the figures to this CSV.")] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="Of the labels of targets that are tables.")
    ] = False,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples behind each 95 % interval; 0 for none.", min=0)
    ] = 1000,
    allow_leaks: AllowLeaks = False,
    device: Device = None,
) -> None:
    """Train on one dataset, test on others: rank figures, and PLCC after the logistic fit."""
    from qfm_iqm.files import check_output

    console = messages()
    if results is not None:
        check_output(results, ".csv")
    check_device(device)
    with extra("train", "A cross-dataset test"):
        from qfm_iqm.evaluation import cross_dataset as crossing
    found = [crossing.find_target(text, lower_is_better=lower_is_better) for text in targets]
    for target in found:
        target.table.paths(target.root)  # before hours of training
    model = _model(source, changes, dataset, out, allow_leaks)
    figures = []
    for target in found:
        figures += crossing.cross(
            model,
            target,
            n_boot=bootstrap,
            device=device,
            progress=lambda rows, total: with_progress(rows, total, "scoring", console),
        )
    if results is not None:
        crossing.write_cross(figures, results)
    data = model.card.training.get("recipe", {}).get("data", {})
    _show(figures, str(data.get("dataset", "")))


def _model(
    source: str,
    changes: list[str] | None,
    dataset: str | None,
    out: Path | None,
    allow_leaks: bool,
) -> QualityModel:
    """The model named, or the one that a recipe gives: trained now, or earlier in that folder."""
    from qfm_iqm.errors import RecipeError
    from qfm_iqm.model.folder import load_model

    if not source.endswith(".toml"):
        if changes or dataset is not None or out is not None:
            raise RecipeError(
                f"--set, --dataset and --out are of a recipe, and '{source}' is a model."
            )
        return load_model(source)
    from qfm_iqm.training.pipeline import finished, prepare
    from qfm_iqm.training.recipe_file import read_recipe
    from qfm_iqm.training.reporting import Reporter
    from qfm_iqm.training.state import InterruptedRunError

    recipe = read_recipe(Path(source), changes or (), dataset=dataset)
    folder = out if out is not None else Path("runs") / recipe.model.name
    console = messages()
    if not finished(recipe, folder):
        try:
            prepare(
                recipe, folder, resume=True, reporter=Reporter(console), allow_leaks=allow_leaks
            ).run()
        except (InterruptedRunError, KeyboardInterrupt):
            console.print(
                f"Interrupted. The same command goes on ({folder}).", markup=False, soft_wrap=True
            )
            raise typer.Exit(130) from None
    return load_model(folder / "model")


def _show(figures: list[CrossFigure], trained_on: str) -> None:
    """Prints a line per target, published ones below it, and a column per metric, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from qfm_iqm.metrics.published import published_cross

    metrics = list(dict.fromkeys(figure.metric for figure in figures))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(f"{figures[0].trained_on or figures[0].model} on")
    table.add_column("images", justify="right")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for target in dict.fromkeys(figure.target for figure in figures):
        rows = [figure for figure in figures if figure.target == target]
        cells = ["-" if row.value is None else f"{row.value:.4f}" for row in rows]
        table.add_row(target, str(rows[0].images), *cells)
        if (beside := published_cross(trained_on, target)) is not None:
            known = {"srcc": f"{beside.srcc:.3f}"}
            table.add_row(
                f"{target} ({beside.method}, published)", "",
                *(known.get(metric, "") for metric in metrics),
            )  # fmt: skip
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
