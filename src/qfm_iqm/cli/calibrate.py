"""`qfm calibrate`: map a model's scores to the user's ratings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.options import (
    Device,
    Label,
    LowerIsBetter,
    Model,
    ModelOut,
    Root,
    check_device,
    messages,
    with_progress,
)
from qfm_iqm.errors import QFMError
from qfm_iqm.files import check_folder

if TYPE_CHECKING:
    from qfm_iqm.metrics.calibration import Figure


def calibrate(
    ratings: Annotated[Path, typer.Argument(help="Table name,mos of 30 to 200 photos you rated.")],
    out: ModelOut,
    model: Model = "default",
    root: Root = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Ends of the rating scale, e.g. 1 5. Default: the model's own scale."),
    ] = None,
    lower_is_better: LowerIsBetter = False,
    curve: Annotated[
        Literal["isotonic", "logistic"],
        typer.Option(help="Any rising curve, or VQEG's four-parameter logistic."),
    ] = "isotonic",
    label: Label = "mos",
    device: Device = None,
) -> None:
    """Calibrate a model to your own ratings; cross-validation tells whether that helps."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.calibrate import calibrated_card
    from qfm_iqm.model.card import read_card
    from qfm_iqm.model.folder import load_model, save_with_card
    from qfm_iqm.model.locate import CARD_FILE

    console = messages()
    check_folder(out, (CARD_FILE,), "a model folder")
    if (out / CARD_FILE).exists() and read_card(out / CARD_FILE).calibration is None:
        raise QFMError(f"{out} holds a model that is not calibrated: choose another --out.")
    check_device(device)
    table = read_table(ratings, label=label)
    loaded = load_model(model)
    card, found = calibrated_card(
        loaded,
        table,
        root if root is not None else ratings.parent,
        ends=scale,
        higher_is_better=not lower_is_better,
        kind=curve,
        device=device,
        progress=lambda rows, total: with_progress(rows, total, "scoring", console),
    )
    save_with_card(model, card, out)
    typer.echo(f"{found.ratings} ratings, SRCC with the scores {found.srcc:.3f}.")
    typer.echo(f"RMSE before: {_shown(found.before)}")
    typer.echo(f"RMSE after, cross-validated: {_shown(found.after)}")
    better, worse = found.gain.low > 0, found.gain.high < 0
    verdict = "better" if better else "worse" if worse else "no clear difference"
    typer.echo(f"Gain: {_shown(found.gain)}: {verdict}. Model: {out}")


def _shown(figure: Figure) -> str:
    return f"{figure.value:.3g} (95 % interval {figure.low:.3g} to {figure.high:.3g})"
