"""`qfm evaluate`: a model, or the scores of any method, against rated images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.options import Device, Label, Root, check_device, extra, messages, with_progress
from qfm_iqm.cli.showing import cell

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.evaluation.methods import SideBySide
    from qfm_iqm.metrics.evaluation import Evaluation


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A model as in qfm score --model, or a table of scores."),
    ],
    labels: Annotated[Path, typer.Argument(help="Table name,mos[,content,...]: CSV or Parquet.")],
    root: Root = None,
    by: Annotated[
        str | None, typer.Option(help="Column whose groups are reported beside the whole.")
    ] = None,
    part: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="Only this part of the split that the model's card records."),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            help="A list of names, one a line: figures of the images kept follow the others."
        ),
    ] = None,
    why: Annotated[
        str | None,
        typer.Option(help="What this look at the test split is for; the test ledger says it."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this CSV.")] = None,
    per_image: Annotated[
        Path | None,
        typer.Option(help="Write name, mos, score, crop_std of each image to this CSV."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Put the figures into the card of the model folder.")
    ] = False,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples behind each 95 % interval; 0 for none.", min=0)
    ] = 1000,
    column: Annotated[
        str | None, typer.Option(help="Column of the scores in a score table. Default: score.")
    ] = None,
    label: Label = "mos",
    device: Device = None,
) -> None:
    """Evaluate a model or a score table: SRCC, PLCC, KRCC and RMSE with 95 % intervals."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.errors import TableError
    from qfm_iqm.files import check_output
    from qfm_iqm.scoring.table import is_table

    console = messages()
    for path in (out, per_image):
        if path is not None:
            check_output(path, ".csv")
    if is_table(model):
        own = {
            "--root": root,
            "--part": part,
            "--why": why,
            "--per-image": per_image,
            "--record": record or None,
            "--device": device,
        }
        _refuse(model, [option for option, value in own.items() if value is not None])
        evaluation = _of_scores(
            Path(model), labels, column or "score", label, by, bootstrap, exclude, console
        )
        if out is not None:
            evaluation.to_csv(out)
        show_evaluation(evaluation, console)
        return
    from qfm_iqm.evaluation.evaluate import evaluate_model, recorded_split
    from qfm_iqm.evaluation.ledger import record_look
    from qfm_iqm.evaluation.methods import read_names
    from qfm_iqm.scoring.runtimes.load import load_runtime

    if column is not None:
        raise TableError(f"Only a score table takes --column, and '{model}' is a model.")
    if why is not None and part != "test":
        raise TableError("--why is for a look at the test split: give --part test, or leave it.")
    if record and exclude is not None:
        raise TableError("A card holds figures of all images: --record takes no --exclude.")
    check_device(device)
    if record:
        _check_folder(model, bootstrap)
    table = read_table(labels, label=label)
    with extra("runtimes", f"The runtime of '{model}'"):
        loaded = load_runtime(model, device=device)
    if part is not None:
        table = recorded_split(loaded.card, table, part)
    evaluation, scored = evaluate_model(
        loaded,
        table,
        root if root is not None else labels.parent,
        by=by,
        n_boot=bootstrap,
        excluded=read_names(exclude) if exclude is not None else (),
        progress=lambda rows, total: with_progress(rows, total, "scoring", console),
    )
    if out is not None:
        evaluation.to_csv(out, split_sha256=loaded.card.training.get("split_sha256", ""))
    if per_image is not None:
        scored.to_csv(per_image)
    if part == "test":
        ledger = record_look(evaluation, loaded.card, out or Path("test"), why or "qfm evaluate")
        console.print(f"Recorded in {ledger}", markup=False, soft_wrap=True)
    if record:
        _record(model, evaluation, loaded.card.training.get("data") or labels.name, part)
    show_evaluation(evaluation, console)


def _check_folder(model: str, n_boot: int) -> None:
    """Refuses to record where there is no card of one's own, or nothing that a card holds."""
    from qfm_iqm.errors import ModelError
    from qfm_iqm.model.locate import WEIGHTS_FILE, packaged_models

    if model in packaged_models() or not (Path(model) / WEIGHTS_FILE).is_file():
        raise ModelError(f"--record writes into a model folder of yours, and '{model}' is none.")
    if not n_boot:
        raise ModelError("A card holds figures with their intervals: --record needs --bootstrap.")


def _record(model: str, evaluation: Evaluation, data: str, part: str | None) -> None:
    """Puts an evaluation into a model's card, in place of what stood there."""
    from qfm_iqm.evaluation.evaluate import card_results
    from qfm_iqm.model.folder import load_card, save_with_card

    results = card_results(evaluation, data if part is None else f"{data} ({part} part)")
    save_with_card(model, load_card(model).model_copy(update={"results": results}), Path(model))


def _refuse(scores: str, options: list[str]) -> None:
    """Refuses what only a model can do."""
    from qfm_iqm.errors import TableError

    if options:
        raise TableError(
            f"Only a model takes {' and '.join(options)}, and '{scores}' is a score table."
        )


def _of_scores(
    scores: Path,
    labels: Path,
    column: str,
    label: str,
    by: str | None,
    n_boot: int,
    exclude: Path | None,
    console: Console,
) -> Evaluation:
    """Evaluates one method's scores as they are: a correlation below 0 tells their direction."""
    from qfm_iqm.evaluation.methods import evaluate_scores, read_names, side_by_side

    found = side_by_side([scores], labels, column=column, label=label)
    say_left_out(found, console)
    (values,) = found.scores.values()
    excluded = read_names(exclude) if exclude is not None else ()
    return evaluate_scores(found.table, values, by=by, n_boot=n_boot, excluded=excluded)


def say_left_out(found: SideBySide, console: Console) -> None:
    """Says how many scores are of no rated image."""
    for name, count in found.left_out.items():
        if count:
            console.print(
                f"{name} has {count} more scores, of images without a label: left out.",
                markup=False,
                soft_wrap=True,
            )


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Prints an evaluation as a table on stdout: a row per part, a column per metric."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    metrics = list(dict.fromkeys(row.metric for row in evaluation.rows))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("part", no_wrap=True)
    table.add_column("images", justify="right")
    for metric in metrics:
        table.add_column(metric.replace("_", "\n"), justify="right", no_wrap=True)
    for part in dict.fromkeys(row.part for row in evaluation.rows):
        rows = [evaluation.row(part, metric) for metric in metrics]
        table.add_row(part, str(rows[0].n), *map(cell, rows))
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)
    notes = {(row.part, row.note): None for row in evaluation.rows if row.note}
    for part, note in notes:
        console.print(f"{part}: {note}", markup=False, soft_wrap=True)
