"""`qfm export`: a model for another runtime, compared with torch before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qfm_iqm.cli.options import extra, messages

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.export import Rated


def export(
    model: Annotated[str, typer.Argument(help="A model of the package, or a model folder.")],
    to: Annotated[str, typer.Option("--to", help="onnx or openvino.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write. Default: MODEL-RUNTIME-PRECISION."),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or int8.")] = "fp32",
    photos: Annotated[
        list[str] | None,
        typer.Option(help="Real photos, or folders of them: int8 is calibrated on some hundred."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Rated images: refuse if SRCC on them moves by more than .003."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Of the table, by the split that the model's card records.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the table's names are relative to.")
    ] = None,
) -> None:
    """Write a model for ONNX Runtime or OpenVINO; qfm score --model takes the folder."""
    from qfm_iqm.errors import QFMError
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.inputs import find_images

    if to not in ("onnx", "openvino"):
        raise QFMError(f"A model is exported to onnx or openvino, not to '{to}'.")
    if precision not in ("fp32", "int8"):
        raise QFMError(f"A model is exported in fp32 or int8, not in '{precision}'.")
    console = messages()
    loaded = load_model(model)
    folder = out or Path(f"{loaded.card.name}-{to}-{precision}")
    found = find_images(photos or []).files
    with extra("runtimes", f"Exporting to {to}"):
        from qfm_iqm.scoring.runtimes.export import export as write

        info = write(
            loaded,
            folder,
            "onnx" if to == "onnx" else "openvino",
            precision="int8" if precision == "int8" else "fp32",
            photos=found,
            rated=None if table is None else _rated(loaded, table, part, root),
        )
    console.print(
        f"{folder}: {info.runtime} in {info.precision}; scores of {info.compared} crops differ "
        f"from torch's by up to {info.max_difference:.2g} standard deviations of the labels"
        + ("." if info.srcc_change is None else f"; SRCC moves by {info.srcc_change:+.4f}."),
        markup=False,
        soft_wrap=True,
    )


def _rated(model: QualityModel, labels: Path, part: str | None, root: Path | None) -> Rated:
    """What gives the SRCC of a model on a rated table."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.evaluate import evaluate_model, recorded_split

    table = read_table(labels)
    if part is not None:
        table = recorded_split(model.card, table, part)
    folder = root if root is not None else labels.parent

    def srcc(candidate: Any) -> float:
        evaluation, _ = evaluate_model(candidate, table, folder, n_boot=0)
        value = evaluation.row("whole", "srcc").value
        assert value is not None
        return value

    return srcc
