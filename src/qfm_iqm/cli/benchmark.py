"""`qfm benchmark` and `qfm curve`: a recipe on numbered folds, and on shares of the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from qfm_iqm.cli.options import AllowLeaks, Dataset, extra, messages
from qfm_iqm.errors import RecipeError

Recipe = Annotated[Path, typer.Argument(help="A recipe: TOML.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key: --set data.root=DIR. May be repeated."),
]
Splits = Annotated[
    Path | None,
    typer.Option(help="Somebody's folds: a folder with fold0.txt ..., or one such file."),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the runs. Default: runs/NAME-VERB.")
]
Results = Annotated[
    Path | None, typer.Option(help="Folder that also gets figures and summary (CSV, Markdown).")
]
Protocol = Annotated[
    Literal["validation-selected", "test-selected"],
    typer.Option(help="test-selected: as in the literature, the best epoch by its test figure."),
]
Folds = Annotated[
    int | None,
    typer.Option(help="Numbered folds. Default: the authors' own split, else ten.", min=1),
]


def benchmark(
    recipe: Recipe,
    dataset: Dataset = None,
    protocol: Protocol = "validation-selected",
    folds: Folds = None,
    splits: Splits = None,
    changes: Changes = None,
    out: Out = None,
    results: Results = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Train and test every fold; killed or interrupted, the same command goes on."""
    _run(recipe, "", out, results, protocol, folds, (1.0,), dataset,
         _with_splits(changes, splits), allow_leaks)  # fmt: skip


def curve(
    recipe: Recipe,
    dataset: Dataset = None,
    shares: Annotated[
        str, typer.Option(help="Shares of the training labels, in percent.")
    ] = "20,40,60,80,100",
    protocol: Protocol = "validation-selected",
    folds: Folds = None,
    splits: Splits = None,
    changes: Changes = None,
    out: Out = None,
    results: Results = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """What fewer labels give: the benchmark at growing shares of the training part."""
    try:
        wanted = tuple(float(share) / 100 for share in shares.split(","))
    except ValueError:
        raise RecipeError(f"--shares takes percents with commas, not '{shares}'.") from None
    _run(recipe, "curve", out, results, protocol, folds, wanted, dataset,
         _with_splits(changes, splits), allow_leaks)  # fmt: skip


def _with_splits(changes: list[str] | None, splits: Path | None) -> list[str]:
    """The changes of the recipe, with the folds that are named."""
    if splits is None:
        return changes or []
    # In full: a relative path would first be looked for beside the images.
    file = json.dumps(str(splits.resolve()))
    return [*(changes or ()), 'data.split="file"', f"data.split_file={file}"]


def _run(
    recipe: Path,
    verb: str,
    out: Path | None,
    results: Path | None,
    protocol: Literal["validation-selected", "test-selected"],
    folds: int | None,
    shares: tuple[float, ...],
    dataset: str | None,
    changes: list[str],
    allow_leaks: bool,
) -> None:
    from qfm_iqm.files import check_output, copy_whole

    console = messages()
    words = [word for word in (recipe.stem, dataset, verb, protocol.replace("-", "_")) if word]
    name, folder = "_".join(words), out if out is not None else Path("runs") / "-".join(words)
    with extra("train", "A benchmark"):
        from qfm_iqm.training import benchmark as bench
        from qfm_iqm.training.reporting import Reporter
        from qfm_iqm.training.state import InterruptedRunError
    plan = bench.plan_benchmark(
        recipe,
        folder,
        protocol=protocol,
        folds=folds,
        shares=shares,
        dataset=dataset,
        changes=changes,
    )
    if results is not None:
        check_output(results / f"{name}_summary.csv", ".csv")
    reporter = Reporter(console)
    try:
        bench.check_leaks(plan, folder, reporter, allow=allow_leaks)
        bench.run_benchmark(plan, folder, reporter)
    except (InterruptedRunError, KeyboardInterrupt):
        console.print(
            f"Interrupted. The same command goes on ({folder}).", markup=False, soft_wrap=True
        )
        raise typer.Exit(130) from None
    if results is not None:
        for file in ("figures.csv", "summary.csv", "summary.md"):
            copy_whole(folder / file, results / f"{name}_{file}")
    print((folder / "summary.md").read_text("utf-8"), end="")
    console.print(f"All figures: {folder / 'figures.csv'}", markup=False, soft_wrap=True)
