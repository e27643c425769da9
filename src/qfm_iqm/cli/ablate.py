"""`qfm ablate`: variants of the method against each other, paired over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import AllowLeaks, extra, messages


def ablate(
    grid: Annotated[Path, typer.Argument(help="A grid: TOML with settings, variants and seeds.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a key of all recipes, or of a setting's: --set [SETTING:]data.root=DIR.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the runs. Default: runs/NAME.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder that also gets runs and summary (CSV, Markdown, SVG)."),
    ] = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Run a grid of variants; killed or interrupted, the same command goes on."""
    from qfm_iqm.files import check_output, copy_whole, write_whole

    console = messages()
    with extra("train", "Training"):
        from qfm_iqm.training import ablation
        from qfm_iqm.training.reporting import Reporter
        from qfm_iqm.training.state import InterruptedRunError
    with extra("figures", "A figure"):
        from qfm_iqm.report.ablation import ablation_table, draw_ablation
    folder = out if out is not None else Path("runs") / grid.stem
    checked, runs = ablation.plan(grid, folder, list(changes or ()))
    if results is not None:
        check_output(results / f"{grid.stem}_runs.csv", ".csv")
    try:
        comparisons = ablation.run_grid(
            checked, runs, folder, Reporter(console), allow_leaks=allow_leaks
        )
    except (InterruptedRunError, KeyboardInterrupt):
        console.print(
            f"Interrupted. The same command goes on ({folder}).", markup=False, soft_wrap=True
        )
        raise typer.Exit(130) from None
    table = ablation_table(comparisons)
    write_whole(table, folder / "summary.md")
    draw_ablation(comparisons, folder / "summary.svg")
    if results is not None:
        for name in ("runs.csv", "summary.csv", "summary.md", "summary.svg"):
            copy_whole(folder / name, results / f"{grid.stem}_{name}")
    print(table)
    console.print(f"All figures: {folder / 'summary.csv'}", markup=False, soft_wrap=True)
