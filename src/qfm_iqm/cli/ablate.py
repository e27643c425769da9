"""`qfm ablate`: variants of the method against each other, paired over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import extra, messages

if TYPE_CHECKING:
    from qfm_iqm.evaluation.paired import Comparison


def ablate(
    grid: Annotated[Path, typer.Argument(help="A grid: TOML with settings, variants and seeds.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a key of all recipes: --set data.root=DIR."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the runs. Default: runs/NAME.")
    ] = None,
) -> None:
    """Run a grid of variants; killed or interrupted, the same command goes on."""
    console = messages()
    with extra("train", "Training"):
        from qfm_iqm.training import ablation
        from qfm_iqm.training.reporting import Reporter
        from qfm_iqm.training.stopping import InterruptedRunError
    folder = out if out is not None else Path("runs") / grid.stem
    checked, runs = ablation.plan(grid, folder, list(changes or ()))
    try:
        comparisons = ablation.run_grid(checked, runs, folder, Reporter(console))
    except (InterruptedRunError, KeyboardInterrupt):
        console.print(
            f"Interrupted. The same command goes on ({folder}).", markup=False, soft_wrap=True
        )
        raise typer.Exit(130) from None
    _show(comparisons)
    console.print(f"All figures: {folder / 'summary.csv'}", markup=False, soft_wrap=True)


def _show(comparisons: list[Comparison]) -> None:
    """Prints the SRCC comparisons with the first reference, in Markdown."""
    reference = comparisons[0].reference if comparisons else ""
    print(f"| setting | part | variant | runs | median SRCC | difference to {reference} | p |")
    print("|---|---|---|---|---|---|---|")
    for c in comparisons:
        if c.reference == reference and c.metric == "srcc" and c.part in ("whole", "subset_mean"):
            print(
                f"| {c.setting} | {c.part} | {c.variant} | {c.pairs} | {c.median:.4f} "
                f"| {c.mean_difference:+.4f} ({c.ci_low:+.4f} to {c.ci_high:+.4f}) | {c.p:.3f} |"
            )
