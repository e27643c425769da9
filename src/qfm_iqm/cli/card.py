"""`qfm card`: a model's card as a page in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    model: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write it to this .md file.")
    ] = None,
    degradation: Annotated[
        Path | None, typer.Option(help="Results of benchmarks/degradation.py.")
    ] = None,
    size_and_frame: Annotated[
        Path | None, typer.Option(help="Results of benchmarks/size_and_frame.py.")
    ] = None,
    speed: Annotated[Path | None, typer.Option(help="Results of benchmarks/speed.py.")] = None,
) -> None:
    """Print a model's card: scale, accuracy per subset, degradation, training, limits, speed."""
    from qfm_iqm.files import check_output, write_whole
    from qfm_iqm.model.folder import load_card
    from qfm_iqm.report.model_card import model_card

    if out is not None:
        check_output(out, ".md")
    page = model_card(
        load_card(model),
        degradation=degradation,
        size_and_frame=size_and_frame,
        speed=speed,
        beside=None if out is None else out.parent,
    )
    if out is None:
        typer.echo(page, nl=False)
    else:
        write_whole(page, out)
