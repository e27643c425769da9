"""`qfm evaluate`: evaluates a model, or the scores of any method, on rated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import (
    Bootstrap,
    By,
    Device,
    Label,
    Labels,
    ModelOrNone,
    Root,
    Split,
    check_device,
    extra,
    messages,
    refuse_idle,
    say,
    with_progress,
)
from qfm_iqm.cli.showing import say_learned, show_evaluation
from qfm_iqm.errors import counted
from qfm_iqm.files import check_distinct, check_output

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.evaluation.methods import SideBySide


def evaluate(
    labels: Labels,
    model: ModelOrNone = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="Evaluate these scores instead of a model: a table name,score."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the scores in that file. Default: score.")
    ] = None,
    root: Root = None,
    label: Label = "mos",
    by: By = None,
    split: Split = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the figures to this CSV.")
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="List of image names, one per line: adds figures without these images."),
    ] = None,
    why: Annotated[
        str | None,
        typer.Option(help="Why the test split is used, for the test ledger."),
    ] = None,
    per_image: Annotated[
        Path | None,
        typer.Option(help="Write name, mos, score, crop_std of each image to this CSV."),
    ] = None,
    bootstrap: Bootstrap = 1000,
    device: Device = None,
) -> None:
    """Evaluate a model or a score table: SRCC, PLCC, KRCC and RMSE with 95 % intervals."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.methods import evaluate_scores, read_names, side_by_side
    from qfm_iqm.scoring.table import check_replaceable

    console = messages()
    check_distinct({"--out": out, "--per-image": per_image}, [labels, scores, exclude])
    for path, columns in (
        (out, ("subset", "metric", "n", "value")),
        (per_image, ("name", "mos", "score", "crop_std")),
    ):
        if path is not None:
            check_output(path, ".csv")
            check_replaceable(path, columns)
    excluded = read_names(exclude) if exclude is not None else ()
    if scores is not None:
        own: dict[str, object] = {"--model": model, "--root": root, "--split": split}
        own |= {"--per-image": per_image, "--device": device, "--why": why}
        refuse_idle(own, "on --scores")
        found = side_by_side([scores], labels, column=column or "score", label=label)
        say_left_out(found, console)
        (values,) = found.scores.values()  # unchanged: lower-is-better scores correlate negatively
        evaluation = evaluate_scores(
            found.table, values, by=by, n_boot=bootstrap, excluded=excluded
        )
        if out is not None:
            evaluation.to_csv(out)
        show_evaluation(evaluation, console)
        return
    from qfm_iqm.evaluation.evaluate import (
        evaluate_model,
        learned_images,
        recorded_split,
        write_images,
    )
    from qfm_iqm.evaluation.ledger import record_look
    from qfm_iqm.scoring.runtimes.load import load_runtime

    refuse_idle({"--column": column}, "without --scores")
    if split != "test":
        refuse_idle({"--why": why}, "without --split test")
    check_device(device)
    model = model or "default"
    table = read_table(labels, label=label)
    with extra("runtimes", f"The runtime of '{model}'"):
        loaded = load_runtime(model, device=device)
    if split is not None:
        table = recorded_split(loaded.card, table, split)
    elif learned := learned_images(loaded.card, table):
        say_learned(model, learned, len(table), "--split test leaves them out", console)
    evaluation, rows = evaluate_model(
        loaded,
        table,
        root if root is not None else labels.parent,
        by=by,
        n_boot=bootstrap,
        excluded=excluded,
        progress=lambda items, total: with_progress(items, total, "scoring", console),
    )
    say(console, f"Scored {counted(len(rows), 'image')} with {model}.")
    if out is not None:
        evaluation.to_csv(out, split_sha256=loaded.card.training.get("split_sha256", ""))
    if per_image is not None:
        write_images(per_image, table, rows, by)
    if split == "test":
        ledger = record_look(evaluation, loaded.card, out or Path("test"), why or "qfm evaluate")
        say(console, f"Recorded in {ledger}")
    show_evaluation(evaluation, console)


def say_left_out(found: SideBySide, console: Console) -> None:
    """Prints how many scores belong to images without a label."""
    for name, count in found.left_out.items():
        if count:
            say(console, f"{name}: {count} scores of images without a label are left out.")
