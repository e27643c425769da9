"""`qfm diagnose`: how much a model answers to semantics, and how much to quality."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.options import Device, Label, Root, check_device, extra, messages, with_progress

if TYPE_CHECKING:
    from qfm_iqm.metrics.diagnosis import Diagnosis

FORMAT = 1  # of the JSON


def diagnose(
    model: Annotated[str, typer.Argument(help="A model as in qfm score --model.")],
    labels: Annotated[Path, typer.Argument(help="Table name,mos[,content,...]: CSV or Parquet.")],
    root: Root = None,
    part: Annotated[
        Literal["test", "validation", "train"] | None,
        typer.Option(help="Only this part of the split that the model's card records."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write every figure to this JSON.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the diagnosis: .svg or .png (needs matplotlib).")
    ] = None,
    images: Annotated[
        int, typer.Option(help="Take at most so many images, drawn by the seed.", min=1)
    ] = 500,
    alpha: Annotated[
        float, typer.Option(help="Weight of the other image's features added.", min=0)
    ] = 0.1,
    tau: Annotated[
        float,
        typer.Option(help="Largest label difference to it, in standard deviations.", min=0),
    ] = 0.25,
    neighbours: Annotated[
        int, typer.Option(help="Nearest images of each that aliasing looks at.", min=1)
    ] = 10,
    backbone: Annotated[
        bool, typer.Option(help="Compare with the public backbone, fetched where it is not local.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the images drawn and the noise.", min=0)] = 0,
    label: Label = "mos",
    device: Device = None,
) -> None:
    """Diagnose a model: feature aliasing, sensitivity to semantics and to quality."""
    import torch

    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation import diagnosis as method
    from qfm_iqm.evaluation.evaluate import recorded_split
    from qfm_iqm.files import check_output, write_whole
    from qfm_iqm.model.folder import load_model

    console = messages()
    if out is not None:
        check_output(out, ".json")
    if figure is not None:
        with extra("figures", "A figure"):
            from qfm_iqm.report.diagnosis_figure import draw_diagnosis
            from qfm_iqm.report.drawing import ENDINGS
        check_output(figure, *ENDINGS)
    check_device(device)
    table = read_table(labels, label=label)
    loaded = load_model(model)
    if part is not None:
        table = recorded_split(loaded.card, table, part)
    table = method.sample(table, images, seed)
    folder = root if root is not None else labels.parent
    loaded.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    found = method.diagnose(
        loaded,
        table,
        folder,
        alpha=alpha,
        tau=tau,
        neighbours=neighbours,
        backbone=backbone,
        seed=seed,
        progress=lambda paths, total: with_progress(paths, total, "diagnosing", console),
    )
    if out is not None:
        content = {"format": FORMAT, "table": labels.name, "part": part} | found.as_dict()
        write_whole(json.dumps(content, indent=2) + "\n", out)
    show_diagnosis(found)
    if backbone and found.backbone is None:
        console.print(
            f"Without the public backbone: {found.backbone_missing}", markup=False, soft_wrap=True
        )
    if found.selectivity is None:
        console.print(found.selectivity_missing, markup=False, soft_wrap=True)
    if figure is not None:
        draw_diagnosis(found, table.paths(folder), figure)


def show_diagnosis(found: Diagnosis) -> None:
    """Prints a diagnosis on stdout: its figures, and the answers to each degradation by level."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    figures = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    figures.add_column(f"{found.model}, {len(found.names)} images", no_wrap=True)
    figures.add_column("value", justify="right")
    figures.add_row("aliasing, random pairs", f"{found.trained.random_rate:.1%}")
    if found.backbone is not None:
        figures.add_row("aliasing, public backbone", f"{found.backbone.rate:.1%}")
    figures.add_row("aliasing, trained features", f"{found.trained.rate:.1%}")
    figures.add_row("semantic-noise sensitivity S_n", f"{found.noise_sensitivity:.4f}")
    figures.add_row("quality sensitivity S_q", f"{found.quality_sensitivity:.4f}")
    selectivity = "-" if found.selectivity is None else f"{found.selectivity:.2f}"
    figures.add_row("selectivity S_q / S_n", selectivity)
    by_level = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    by_level.add_column("change (drop)", no_wrap=True)
    by_kind = found.by_distortion
    for level in range(1, max(map(len, by_kind.values())) + 1):
        by_level.add_column(f"level {level}", justify="right", no_wrap=True)
    for kind, responses in by_kind.items():
        by_level.add_row(kind, *(f"{one.change:.2f} ({one.drop:+.2f})" for one in responses))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(figures)
    console.print()
    console.print(by_level)
