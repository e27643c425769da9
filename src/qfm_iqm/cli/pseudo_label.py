"""`qfm pseudo-label`: a teacher's scores of crops, to train a student on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qfm_iqm.cli.options import Device, Root, check_device, messages, with_progress


def pseudo_label(
    teacher: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    table: Annotated[Path, typer.Argument(help="Table name[,content,...]; labels are not read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV to write.")],
    root: Root = None,
    part: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="Only this part of the split that the teacher's card records."),
    ] = None,
    extra_crops: Annotated[
        int, typer.Option(help="Random crops of each image beside the covering grid.", min=0)
    ] = 4,
    degrade: Annotated[
        bool, typer.Option(help="Also score a crop of each image degraded at five strengths.")
    ] = False,
    drop: Annotated[
        float,
        typer.Option(help="Least drop from strength to strength, in standard deviations.", min=0),
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the random choices.", min=0)] = 0,
    device: Device = None,
) -> None:
    """Let a teacher score crops of images, as labels for a student (recipe: data.pseudo_labels)."""
    import torch

    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.method import distillation
    from qfm_iqm.network.checkpoint import load_model
    from qfm_iqm.scoring.judging import recorded_part
    from qfm_iqm.scoring.rows import check_output

    console = messages()
    check_output(out, only=".csv")
    check_device(device)
    images = read_table(table, require_mos=False)
    model = load_model(teacher)
    if part is not None:
        images = recorded_part(model.card, images, part)
    folder = root if root is not None else table.parent
    paths = images.paths(folder)
    model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    coming = distillation.pseudo_label(
        model,
        list(zip(images.names, images.contents, paths, strict=True)),
        extra_crops=extra_crops,
        degrade=degrade,
        drop=drop,
        seed=seed,
    )
    rows = [
        row for image in with_progress(coming, len(images), "scoring", console) for row in image
    ]
    labels = distillation.PseudoLabels(
        tuple(rows), model.card.preprocessing, model.card.weights_sha256
    )
    distillation.write_pseudo_labels(labels, out)
    console.print(f"{len(rows)} crops of {len(images)} images: {out}", soft_wrap=True)
