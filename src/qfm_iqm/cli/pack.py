"""`qfm pack`: a model as the small part that was trained upon a public backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    model: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
    rank: Annotated[
        int, typer.Option(help="Of the factors kept of each layer's change.", min=1)
    ] = 16,
    lossy: Annotated[
        bool, typer.Option(help="Also pack a model of which that leaves something out.")
    ] = False,
) -> None:
    """Pack a model that was tuned from a public backbone: only what training changed is kept."""
    from qfm_iqm.model.folder import save_packed

    left_out = save_packed(model, out, rank=rank, lossy=lossy)
    size = sum(file.stat().st_size for file in out.iterdir())
    typer.echo(
        f"Packed: {size / 1e6:.1f} MB, at most {left_out:.2g} left out of a layer's change. The "
        f"backbone is fetched, or taken from QFM_BACKBONE_DIR, when it is loaded. Model: {out}"
    )
