"""`qfm export`: a model for another runtime, compared with torch before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qfm_iqm.cli.options import Model, Root, Split, extra, messages, refuse_idle, say

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.export import Rated


def export(
    to: Annotated[Literal["onnx", "openvino"], typer.Option("--to", help="The runtime.")],
    model: Model = "default",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write. Default: MODEL-RUNTIME-PRECISION."),
    ] = None,
    precision: Annotated[Literal["fp32", "int8"], typer.Option(help="It computes in.")] = "fp32",
    photos: Annotated[
        list[str] | None,
        typer.Option(help="Real photos, or folders of them: int8 is calibrated on some hundred."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Rated images: refuse if SRCC on them moves by more than .003."),
    ] = None,
    root: Root = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the table's labels. Default: mos.")
    ] = None,
    split: Split = None,
) -> None:
    """Write a model for ONNX Runtime or OpenVINO; qfm score --model takes the folder."""
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.inputs import find_images

    if table is None:
        refuse_idle({"--root": root, "--label": label, "--split": split}, "without --table")
    console = messages()
    loaded = load_model(model)
    folder = out or Path(f"{loaded.card.name}-{to}-{precision}")
    found = find_images(photos or []).files
    with extra("runtimes", f"Exporting to {to}"):
        from qfm_iqm.scoring.runtimes.export import export as write

        info = write(
            loaded,
            folder,
            to,
            precision=precision,
            photos=found,
            rated=None if table is None else _rated(loaded, table, split, root, label or "mos"),
        )
    say(
        console,
        f"{folder}: {info.runtime} in {info.precision}; scores of {info.compared} crops differ "
        f"from torch's by up to {info.max_difference:.2g} standard deviations of the labels"
        + ("." if info.srcc_change is None else f"; SRCC moves by {info.srcc_change:+.4f}."),
    )


def _rated(
    model: QualityModel, labels: Path, split: str | None, root: Path | None, label: str
) -> Rated:
    """What gives the SRCC of a model on a rated table."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.evaluate import evaluate_model, recorded_split

    table = read_table(labels, label=label)
    if split is not None:
        table = recorded_split(model.card, table, split)
    folder = root if root is not None else labels.parent

    def srcc(candidate: Any) -> float:
        evaluation, _ = evaluate_model(candidate, table, folder, n_boot=0)
        value = evaluation.row("whole", "srcc").value
        assert value is not None
        return value

    return srcc
