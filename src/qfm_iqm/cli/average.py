"""`qfm average`: several trainings from the same weights, as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def average(
    models: Annotated[list[str], typer.Argument(help="Models as in qfm score --model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
) -> None:
    """Average the weights of models that were trained on from the same weights."""
    from qfm_iqm.model.averaging import averaged
    from qfm_iqm.model.folder import load_model, save_model

    save_model(averaged([load_model(model) for model in models]), out)
    typer.echo(f"The mean of {len(models)} models. Model: {out}")
