"""`qfm export`: writes a model for another runtime, checked against torch, or for the hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.options import Model, Root, Split, extra, messages, refuse_idle, say
from qfm_iqm.errors import QFMError
from qfm_iqm.files import check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.export import Rated


def export(
    to: Annotated[
        Literal["onnx", "openvino", "hub-folder"],
        typer.Option("--to", help="The runtime; or hub-folder for a Hugging Face repository."),
    ],
    model: Model = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder to write. Default: MODEL-RUNTIME-PRECISION, or MODEL-hub."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "int8"] | None,
        typer.Option(help="Precision of the exported network. Default: fp32."),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(help="Real photos, or folders of them: int8 is calibrated on a few hundred."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Rated images: refuse if SRCC on them falls by more than 0.003."),
    ] = None,
    root: Root = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the table's labels. Default: mos.")
    ] = None,
    split: Split = None,
) -> None:
    """Write a model for ONNX Runtime, OpenVINO or the hub; qfm score --model takes the folder."""
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.inputs import find_images

    console = messages()
    own = {"--root": root, "--label": label, "--split": split}
    if to == "hub-folder":
        others = {"--precision": precision, "--photos": photos, "--table": table}
        refuse_idle({**others, **own}, "with --to hub-folder")
        _write_hub_folder(model, out, console)
        return
    if table is None:
        refuse_idle(own, "without --table")
    precision = precision or "fp32"
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
        + ("." if info.srcc_change is None else f"; SRCC changes by {info.srcc_change:+.4f}."),
    )


def _write_hub_folder(model: str, out: Path | None, console: Console) -> None:
    """Writes a folder that can be uploaded unchanged."""
    from qfm_iqm.model.folder import load_card
    from qfm_iqm.model.hub_folder import PAGE_FILE, save_hub_folder
    from qfm_iqm.model.locate import CARD_FILE

    folder = out or Path(f"{load_card(model).name}-hub")
    check_folder(folder, (CARD_FILE,), "a model folder")
    if (folder / CARD_FILE).exists() and not (folder / PAGE_FILE).exists():
        raise QFMError(f"{folder} holds a model that is no hub folder: choose another --out.")
    save_hub_folder(model, folder)
    say(console, f"{folder}: upload it with hf upload OWNER/NAME {folder}")


def _rated(
    model: QualityModel, labels: Path, split: str | None, root: Path | None, label: str
) -> Rated:
    """A function that returns a model's SRCC on a rated table."""
    from qfm_iqm.datasets.reading import read_table
    from qfm_iqm.evaluation.evaluate import rated_srcc, recorded_split

    table = read_table(labels, label=label)
    if split is not None:
        table = recorded_split(model.card, table, split)
    return partial(rated_srcc, table=table, root=root if root is not None else labels.parent)
