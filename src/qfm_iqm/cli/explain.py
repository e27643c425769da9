"""`qfm explain`: where a photo is good, and where it is bad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import Device, Model, Raw, check_device, check_figure


def explain(
    image: Annotated[Path, typer.Argument(help="One image.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Figure to write: .png or .svg (needs matplotlib).")
    ],
    model: Model = "default",
    raw: Raw = "preview",
    device: Device = None,
) -> None:
    """Draw a photo's quality map: photo, map and scale side by side."""
    import torch

    from qfm_iqm.causes.severity import in_words
    from qfm_iqm.image.decode import read_image
    from qfm_iqm.model.folder import load_model

    check_figure(out, "A quality map")
    from qfm_iqm.report.map_figure import draw_map
    from qfm_iqm.scoring.scorer import Scorer

    check_device(device)
    loaded = load_model(model)
    loaded.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    image_CHW = read_image(image, raw=raw)
    found = loaded.explain(image_CHW)
    label = loaded.card.label.shown
    draw_map(found, image_CHW, label, out)
    (row,) = Scorer(loaded, readers=1, raw=raw, causes=True).score_paths([image])
    cause = in_words(row.cause, None if row.cause in ("", "none") else getattr(row, row.cause))
    rows, columns = found.values.shape
    typer.echo(
        f"{image}: {found.score:.4g} ({label.name}), "
        f"{found.values.min():.4g} to {found.values.max():.4g} in {columns} x {rows} patches, "
        f"main cause of loss: {cause}: {out}"
    )
