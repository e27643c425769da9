"""`qfm finish`: a model's reference statistics, from held-out photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qfm_iqm.cli.options import Device, Root, check_device, messages, with_progress


def finish(
    model: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    labels: Annotated[Path, typer.Argument(help="Table name,mos[,content,...]: CSV or Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
    root: Root = None,
    part: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(
            help="Only this part of the split that the model's card records; what photos are "
            "like is then learned from the train part. Default: the whole table, which the model "
            "must not have been trained on."
        ),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Share of photos whose MOS the interval holds.", min=0.5, max=0.99)
    ] = 0.9,
    population: Annotated[
        str | None, typer.Option(help="What the photos are, in words, for the card.")
    ] = None,
    device: Device = None,
) -> None:
    """Find a model's reference statistics: percentile, interval, out-of-distribution limit."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.evaluate import recorded_split
    from qfm_iqm.evaluation.reference import find_reference_statistics
    from qfm_iqm.model.folder import load_model, save_with_card

    console = messages()
    check_device(device)
    table = read_table(labels)
    loaded = load_model(model)
    seen = None
    if part is not None:
        seen = recorded_split(loaded.card, table, "train")
        table = recorded_split(loaded.card, table, part)
    if population is None:
        name = loaded.card.training.get("data") or labels.name
        population = f"{name} ({part} part)" if part else labels.name
    reference = find_reference_statistics(
        loaded,
        table,
        root if root is not None else labels.parent,
        seen=seen,
        population=population,
        level=level,
        device=device,
        progress=lambda rows, total: with_progress(rows, total, "scoring", console),
        watch=lambda found, total: with_progress(found, total, "looking", console),
    )
    save_with_card(model, loaded.card.model_copy(update={"reference_statistics": reference}), out)
    assert reference.interval is not None
    detector = reference.ood_detector
    assert detector is not None
    half_width = loaded.card.label.show_width(reference.interval.half_width)
    typer.echo(
        f"{reference.images} photos. A score means the mean opinion within ± {half_width:.3g} for "
        f"{level:.0%} of photos like these: {reference.interval.coverage:.1%} of "
        f"{reference.interval.checked} that had no part in it. {detector.false_alarms:.1%} of "
        f"{detector.checked} such photos are called out of distribution. Model: {out}"
    )
