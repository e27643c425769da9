"""`qfm explain`: shows where a photo is good and where it is bad."""

from pathlib import Path
from typing import Annotated

import typer

from qfm_iqm.cli.options import Device, Model, Raw, check_device, check_figure, refuse_idle


def explain(
    image: Annotated[str, typer.Argument(help="One image.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Figure to write: .png or .svg (needs matplotlib).")
    ],
    model: Model = "default",
    raw: Raw = "preview",
    device: Device = None,
) -> None:
    """Draw a photo's quality map beside it, and say what lowers its quality most."""
    from qfm_iqm.causes.severity import in_words
    from qfm_iqm.files import check_distinct
    from qfm_iqm.image.decode import opened, read_image
    from qfm_iqm.image.fetch import is_url
    from qfm_iqm.image.load import fetch
    from qfm_iqm.image.raw import RawPhoto
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.torch_runtime import chosen_device

    check_distinct({"--out": out}, [image])
    check_figure(out, "A quality map", mark="Quality map")
    from qfm_iqm.report.map_figure import draw_map
    from qfm_iqm.scoring.scorer import Scorer

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
    again = None if content is None else lambda _: content
    (row,) = Scorer(loaded, readers=1, raw=raw, causes=True, fetch=again).score_paths([image])
    cause = in_words(row.cause, None if row.cause in ("", "none") else getattr(row, row.cause))
    rows, columns = found.values.shape
    typer.echo(
        f"{image}: {found.score:.4g} ({label.name}), "
        f"{found.values.min():.4g} to {found.values.max():.4g} in {columns} x {rows} patches, "
        f"main cause of loss: {cause}: {out}"
    )
