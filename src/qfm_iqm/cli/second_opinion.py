"""`qfm second-opinion`: scene statistics beside a trained model's encoder and decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qfm_iqm.cli.options import Root, messages, with_progress


def second_opinion(
    model: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    labels: Annotated[Path, typer.Argument(help="Table name,mos[,content,...]: CSV or Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
    root: Root = None,
    part: Annotated[
        Literal["train"] | None,
        typer.Option(
            help="Only the part of the split in the model's card that it was trained on. Default: "
            "the whole table."
        ),
    ] = None,
    pseudo_labels: Annotated[
        list[Path] | None,
        typer.Option(help="Also learn from what a teacher said of crops; may be repeated."),
    ] = None,
    centres: Annotated[int, typer.Option(help="Of the kernel regression.", min=1)] = 2048,
    weight: Annotated[
        float,
        typer.Option(help="Of the second opinion in a quality.", min=0.01, max=0.99),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the centres.", min=0)] = 0,
) -> None:
    """Give a trained model a second opinion, on the statistics of the pixels."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.distill.nss_fit import read_teachings, with_opinion
    from qfm_iqm.evaluation.evaluate import recorded_split
    from qfm_iqm.model.folder import kept_precision, load_model, save_model

    console = messages()
    whole, place = read_table(labels), root if root is not None else labels.parent
    loaded = load_model(model)
    table = whole if part is None else recorded_split(loaded.card, whole, part)
    held = {*whole.names, *whole.contents} - {*table.names, *table.contents}
    rows = read_teachings(pseudo_labels or [], loaded.card, held)
    found = with_opinion(
        loaded,
        table,
        place,
        pseudo=rows,
        centres=centres,
        weight=weight,
        seed=seed,
        watch=lambda coming, total: with_progress(coming, total, "measuring", console),
    )
    save_model(found, out, dtype=kept_precision(loaded))
    typer.echo(
        f"Learned from {len(table)} images and {len(rows)} crops that a teacher scored. "
        f"Model: {out}"
    )
