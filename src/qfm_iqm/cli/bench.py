"""`qfm bench`: folds, learning curves, ablations, cross-dataset tests, diagnosis."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from qfm_iqm.cli.options import (
    AllowLeaks,
    Bootstrap,
    Changes,
    Dataset,
    Device,
    Label,
    Labels,
    LowerIsBetter,
    Model,
    Recipe,
    Results,
    Root,
    RunOut,
    Split,
    check_device,
    check_figure,
    extra,
    interruptible,
    messages,
    refuse_idle,
    say,
    with_progress,
)
from qfm_iqm.cli.results import check_results, copy_results
from qfm_iqm.cli.showing import say_learned, show_cross, show_diagnosis
from qfm_iqm.errors import RecipeError
from qfm_iqm.files import check_distinct, check_folder, check_output, write_whole
from qfm_iqm.text_tables import write_csv

app = typer.Typer(
    name="bench",
    help="For papers: folds, label shares, ablations, other datasets, diagnosis.",
    no_args_is_help=True,
)

ProtocolName = Literal["validation-selected", "test-selected"]
Protocol = Annotated[
    ProtocolName,
    typer.Option(help="test-selected: as in the literature, the epoch with the best test result."),
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds", help="Number of folds. Default: the authors' own split, else ten.", min=1
    ),
]
Splits = Annotated[
    Path | None,
    typer.Option(help="Existing folds: a folder with fold0.txt ..., or one such file."),
]


@app.command("folds")
def folds(
    recipe: Recipe,
    dataset: Dataset = None,
    protocol: Protocol = "validation-selected",
    count: Folds = None,
    splits: Splits = None,
    changes: Changes = None,
    out: RunOut = None,
    results: Results = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Train and test every fold; after an interruption, the same command continues."""
    _run(recipe, "", out, results, protocol, count, (1.0,), dataset,
         changes, splits, allow_leaks)  # fmt: skip


@app.command("curve")
def curve(
    recipe: Recipe,
    dataset: Dataset = None,
    shares: Annotated[
        str, typer.Option(help="Shares of the training labels, in percent.")
    ] = "20,40,60,80,100",
    protocol: Protocol = "validation-selected",
    count: Folds = None,
    splits: Splits = None,
    changes: Changes = None,
    out: RunOut = None,
    results: Results = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Run the folds at growing shares of the training split, to see what fewer labels give."""
    try:
        wanted = tuple(float(share) / 100 for share in shares.split(","))
    except ValueError:
        raise RecipeError(f"--shares takes comma-separated percentages, not '{shares}'.") from None
    _run(recipe, "curve", out, results, protocol, count, wanted, dataset,
         changes, splits, allow_leaks)  # fmt: skip


@app.command("ablate")
def ablate(
    grid: Annotated[Path, typer.Argument(help="A grid: TOML with settings, variants and seeds.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a key of all recipes, or of a setting's: --set [SETTING:]data.root=DIR.",
        ),
    ] = None,
    out: RunOut = None,
    results: Results = None,
    allow_leaks: AllowLeaks = False,
) -> None:
    """Run a grid of variants; after an interruption, the same command continues."""
    console = messages()
    with extra("train", "Training"):
        from qfm_iqm.training import ablation
        from qfm_iqm.training.reporting import Reporter
    with extra("figures", "A figure"):
        from qfm_iqm.report.ablation import ablation_table, draw_ablation
    folder = out if out is not None else Path("runs") / grid.stem
    checked, runs = ablation.plan(grid, folder, list(changes or ()))
    check_folder(folder, {"runs.csv", *checked.settings}, "a grid folder")
    figures = ("runs.csv", "summary.csv", "summary.md", "summary.svg")
    check_results(results, grid.stem, figures)
    with interruptible(console, f"run the same command again to continue ({folder})."):
        comparisons = ablation.run_grid(
            checked, runs, folder, Reporter(console), allow_leaks=allow_leaks
        )
    table = ablation_table(comparisons)
    write_whole(table, folder / "summary.md")
    draw_ablation(comparisons, folder / "summary.svg")
    copy_results(folder, results, grid.stem, figures)
    print(table)
    say(console, f"All figures: {folder / 'summary.csv'}")


@app.command("cross")
def cross(
    targets: Annotated[
        list[str], typer.Argument(help="NAME=ROOT of a dataset, or a table beside its images.")
    ],
    model: Model = "default",
    results: Annotated[Path | None, typer.Option(help="Write the figures to this CSV.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the labels in tables. Default: mos.")
    ] = None,
    lower_is_better: LowerIsBetter = False,
    bootstrap: Bootstrap = 1000,
    device: Device = None,
) -> None:
    """Test a model on other datasets: rank correlations, and PLCC after the logistic fit."""
    from qfm_iqm.evaluation import cross_dataset as crossing
    from qfm_iqm.evaluation.evaluate import learned_images
    from qfm_iqm.model.folder import load_model

    console = messages()
    if results is not None:
        check_output(results, ".csv")
    check_device(device)
    found = [
        crossing.find_target(text, label=label or "mos", lower_is_better=lower_is_better)
        for text in targets
    ]
    check_distinct({"--results": results}, [target.table.source for target in found])
    if not any(target.is_table for target in found):
        refuse_idle(
            {"--label": label, "--lower-is-better": lower_is_better},
            "on named datasets, whose labels are known",
        )
    for target in found:
        target.table.paths(target.root)  # fails on a missing file before any is scored
    loaded = load_model(model)
    figures = []
    for target in found:
        if learned := learned_images(loaded.card, target.table):
            remedy = "a cross-dataset test needs other images"
            say_learned(model, learned, len(target.table), remedy, console)
        figures += crossing.cross(
            loaded,
            target,
            n_boot=bootstrap,
            device=device,
            progress=lambda rows, total: with_progress(rows, total, "scoring", console),
        )
    if results is not None:
        write_csv(results, crossing.CrossFigure._fields, figures)
    data = loaded.card.training.get("recipe", {}).get("data", {})
    show_cross(figures, str(data.get("dataset", "")))


@app.command("diagnose")
def diagnose(
    labels: Labels,
    model: Model = "default",
    root: Root = None,
    label: Label = "mos",
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write every figure to this JSON.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the diagnosis: .svg or .png (needs matplotlib).")
    ] = None,
    images: Annotated[
        int, typer.Option(help="Use at most this many images, drawn by the seed.", min=1)
    ] = 500,
    alpha: Annotated[
        float, typer.Option(help="Weight of the other image's added features.", min=0)
    ] = 0.1,
    tau: Annotated[
        float,
        typer.Option(help="Largest label difference of a match, in standard deviations.", min=0),
    ] = 0.25,
    neighbors: Annotated[
        int, typer.Option(help="Number of nearest neighbors for aliasing.", min=1)
    ] = 10,
    backbone: Annotated[
        bool, typer.Option(help="Compare with the public backbone, downloaded if not local.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the drawn images and the noise.", min=0)] = 0,
    device: Device = None,
) -> None:
    """Diagnose a model: feature aliasing, sensitivity to semantics and to quality."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation import diagnosis as method
    from qfm_iqm.evaluation.evaluate import recorded_split
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.torch_runtime import chosen_device

    console = messages()
    if out is not None:
        check_output(out, ".json")
    if figure is not None:
        check_figure(figure, "A figure")
    check_distinct({"--out": out, "--figure": figure}, [labels])
    check_device(device)
    table = read_table(labels, label=label)
    loaded = load_model(model)
    if split is not None:
        table = recorded_split(loaded.card, table, split)
    table = method.sample(table, images, seed)
    folder = root if root is not None else labels.parent
    loaded.to(chosen_device(device))
    found = method.diagnose(
        loaded,
        table,
        folder,
        alpha=alpha,
        tau=tau,
        neighbors=neighbors,
        backbone=backbone,
        seed=seed,
        progress=lambda paths, total: with_progress(paths, total, "diagnosing", console),
    )
    if out is not None:
        about = {"format": 1, "table": labels.name, "split": split}
        write_whole(json.dumps(about | found.as_dict(), indent=2) + "\n", out)
    show_diagnosis(found)
    if backbone and found.backbone is None:
        say(console, f"Without the public backbone: {found.backbone_missing}")
    if found.selectivity is None:
        say(console, found.selectivity_missing)
    if figure is not None:
        from qfm_iqm.report.diagnosis_figure import draw_diagnosis

        draw_diagnosis(found, table.paths(folder), figure)


def _run(
    recipe: Path,
    verb: str,
    out: Path | None,
    results: Path | None,
    protocol: ProtocolName,
    folds: int | None,
    shares: tuple[float, ...],
    dataset: str | None,
    changes: list[str] | None,
    splits: Path | None,
    allow_leaks: bool,
) -> None:
    console = messages()
    words = [word for word in (recipe.stem, dataset, verb, protocol.replace("-", "_")) if word]
    name, folder = "_".join(words), out if out is not None else Path("runs") / "-".join(words)
    with extra("train", "A benchmark"):
        from qfm_iqm.training import benchmark
        from qfm_iqm.training.reporting import Reporter
    changes = list(changes or ())
    if splits is not None:
        # Absolute: a relative path would first be looked up beside the images.
        changes += ['data.split="file"', f"data.split_file={json.dumps(str(splits.resolve()))}"]
    plan = benchmark.plan_benchmark(
        recipe,
        folder,
        protocol=protocol,
        folds=folds,
        shares=shares,
        dataset=dataset,
        changes=changes,
    )
    check_folder(folder, benchmark.MARKS, "a benchmark folder")
    figures = ("figures.csv", "summary.csv", "summary.md")
    check_results(results, name, figures)
    reporter = Reporter(console)
    with interruptible(console, f"run the same command again to continue ({folder})."):
        benchmark.check_leaks(plan, folder, reporter, allow=allow_leaks)
        benchmark.run_benchmark(plan, folder, reporter)
    copy_results(folder, results, name, figures)
    print((folder / "summary.md").read_text("utf-8"), end="")
    say(console, f"All figures: {folder / 'figures.csv'}")
