r"""Does the method help where content predicts quality? The registered experiment.

    python benchmarks/confound.py recipes/confounded.toml --set root=BIQ2021 --set cells=CELLS \
        --out runs/confounded --results benchmarks/results

Run it twice to use two cores. The same command continues an interrupted run.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import (
    Changes,
    Recipe,
    Results,
    RunOut,
    extra,
    interruptible,
    messages,
    say,
)
from qfm_iqm.cli.results import check_results, copy_results
from qfm_iqm.errors import QFMError, RecipeError


def confound(
    recipe: Recipe,
    changes: Changes = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--setting", help="Run only this setting. May be repeated."),
    ] = None,
    out: RunOut = None,
    results: Results = None,
) -> None:
    """Runs what is missing of the experiment, and summarizes it."""
    from qfm_iqm.files import check_folder, write_whole
    from qfm_iqm.metrics.paired_runs import Comparison
    from qfm_iqm.text_tables import write_csv

    console = messages()
    with extra("train", "Training"):
        import torch

        from confounded import grid, summary
        from confounded.config import read_confounding
        from qfm_iqm.training.reporting import Reporter
    with extra("figures", "A figure"):
        from confounded.figures import confounding_table, draw_clusters, draw_gains
    checked = read_confounding(recipe, list(changes or ()))
    for name in only or ():
        if name not in checked.settings:
            raise RecipeError(f"--setting {name}: choose {', '.join(checked.settings)}.")
    folder = out if out is not None else Path("runs") / recipe.stem
    check_folder(folder, grid.MARKS, "a folder of this experiment")
    figures = ("runs.csv", "options.csv", "clusters.csv",
               "summary.csv", "summary.md", "summary.svg")  # fmt: skip
    check_results(results, recipe.stem, figures)
    torch.set_num_threads(1)  # sums are then the same on every machine; processes use the cores
    with interruptible(console, f"run the same command again to continue ({folder})."):
        reporter = Reporter(console)
        experiment = grid.prepare(checked, folder, reporter)
        draw_clusters(experiment.ends, folder / "clusters.png")
        grid.run_all(experiment, reporter, only)
    comparisons = summary.summarize(checked, folder / "runs.csv")
    write_csv(folder / "summary.csv", Comparison._fields, comparisons)
    table = confounding_table(comparisons, summary.told(checked, comparisons))
    write_whole(table, folder / "summary.md")
    draw_gains(summary.gains_over_random(checked, comparisons), folder / "summary.svg")
    copy_results(folder, results, recipe.stem, figures)
    print(table)
    say(console, f"All figures: {folder / 'summary.csv'}")


if __name__ == "__main__":
    try:
        typer.run(confound)
    except QFMError as error:
        sys.exit(str(error))
