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
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Leave out what shows a validation or test image of this rated table again, by "
            "the split that the teacher's card records."
        ),
    ] = None,
    extra_crops: Annotated[
        int, typer.Option(help="Random crops of each image beside the covering grid.", min=0)
    ] = 4,
    chains: Annotated[
        int,
        typer.Option(
            help="So many crops of each image are also scored degraded, at five strengths.", min=0
        ),
    ] = 0,
    drop: Annotated[
        float,
        typer.Option(help="Least drop from strength to strength, in standard deviations.", min=0),
    ] = 0.1,
    grid: Annotated[
        int | None,
        typer.Option(
            "--tokens",
            help="Also keep the teacher's tokens, averaged to a grid of this side.",
            min=1,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random choices.", min=0)] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes that read and degrade ahead, for a GPU.", min=0)
    ] = 0,
    device: Device = None,
) -> None:
    """Let a teacher score crops of images, as labels for a student (recipe: data.pseudo_labels).

    Interrupted, the same command goes on.
    """
    import torch

    from qfm_iqm.datasets.leakage import pool_leaks, write_leaks
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.distill.pseudo_labels import write_pseudo_labels
    from qfm_iqm.distill.teacher import Teaching
    from qfm_iqm.evaluation.evaluate import recorded_split
    from qfm_iqm.files import check_output
    from qfm_iqm.model.folder import load_model

    console = messages()
    check_output(out, ".csv")
    check_device(device)
    images = read_table(table, require_mos=False)
    model = load_model(teacher)
    if part is not None:
        images = recorded_split(model.card, images, part)
    folder = root if root is not None else table.parent
    if held_out is not None:
        rated = read_table(held_out)
        splits = {name: recorded_split(model.card, rated, name) for name in ("validation", "test")}
        every = images.paths(folder)
        leaks = pool_leaks(images.names, images.contents, every, splits, root or held_out.parent)
        write_leaks(leaks, out.with_suffix(".leaks.csv"))
        leaking = {leak.image for leak in leaks}
        console.print(
            f"{len(leaking)} images leak and are left out: {out.with_suffix('.leaks.csv')}",
            soft_wrap=True,
        )
        images = images.select([i for i, path in enumerate(every) if str(path) not in leaking])
    paths = images.paths(folder)
    model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    rows = write_pseudo_labels(
        model,
        list(zip(images.names, images.contents, paths, strict=True)),
        Teaching(extra_crops, chains, drop, seed, grid),
        out,
        lambda done, total: with_progress(done, total, "scoring", console),
        workers=workers,
    )
    console.print(f"{rows} crops of {len(images)} images: {out}", soft_wrap=True)
