"""`qfm explain`: shows where a photo is good and where it is bad."""

from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import Device, Model, Raw, check_device, check_figure, refuse_idle
from qfm_iqm.errors import printable
from qfm_iqm.files import check_distinct


def explain(
    image: Annotated[str, typer.Argument(help="One image.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Figure to write: .png or .svg (needs matplotlib).")
    ],
    model: Model = "default",
    raw: Raw = "preview",
    device: Device = None,
) -> None:
    """Draw a photo's quality map beside it, and tell what lowers its quality."""
    from qfm_iqm.image.decode import opened, read_image
    from qfm_iqm.image.fetch import is_url
    from qfm_iqm.image.load import fetch
    from qfm_iqm.image.raw import RawPhoto
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.torch_runtime import chosen_device

    check_distinct({"--out": out}, [image])
    check_figure(out, "A quality map", mark="Quality map")
    from qfm_iqm.report.map_figure import draw_map

    content = fetch(image) if is_url(image) else None
    source = image if content is None else content
    with opened(source, name=image, raw=raw) as picture:
        developed = isinstance(picture.image, RawPhoto)
    if raw == "develop" and not developed:
        refuse_idle({"--raw": raw}, "on an image that is not a camera RAW file")
    check_device(device)
    loaded = load_model(model)
    loaded.to(chosen_device(device))
    image_CHW = read_image(source, raw=raw)
    found = loaded.explain(image_CHW)
    label = loaded.card.label.shown
    draw_map(found, image_CHW, label, out)
    causes = loaded.causes(source if raw == "preview" else image_CHW)
    rows, columns = found.values.shape
    said = (
        f"{image}: {found.score:.4g} ({label.name}), "
        f"{found.values.min():.4g} to {found.values.max():.4g} in {columns} x {rows} patches, "
        f"causes: {causes}: {out}"
    )
    typer.echo(printable(said))
