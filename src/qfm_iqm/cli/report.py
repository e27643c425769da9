"""`qfm report`: turns score tables into one HTML page that works offline."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import messages, refuse_idle, say, with_progress
from qfm_iqm.errors import QFMError
from qfm_iqm.files import check_distinct, check_output, write_whole

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.model.card import LabelUnits
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.row import ScoreRow
    from qfm_iqm.scoring.runtimes.base import Runtime
    from qfm_iqm.scoring.table import ScoreTable
    from qfm_iqm.scoring.video import FrameScore


PAGE_MARK = 'content="qfm-iqm"'  # in the head of every page


def report(
    tables: Annotated[
        list[Path], typer.Argument(help="A score table; or two, of the same images, to compare.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Base folder of the tables' paths. Default: the current folder."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Initial threshold. Default: worst tenth.")
    ] = None,
    thumbnails: Annotated[
        int, typer.Option(help="Number of images with a thumbnail in the page.", min=0)
    ] = 500,
    maps: Annotated[
        int | None,
        typer.Option(help="Number of the worst images that get a quality map. Default: 12.", min=0),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(help="Scores of videos' frames, by qfm score --frames: draws their curves."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="The model that scored, for scale and direction of the scores."
        ),
    ] = None,
) -> None:
    """Make one HTML page of scores: distribution, threshold, gallery, errors; or a comparison."""
    from qfm_iqm.model.card import LabelUnits, read_card
    from qfm_iqm.model.locate import CARD_FILE, find_model
    from qfm_iqm.report.comparison import comparison_page
    from qfm_iqm.report.scores import Place, scores_page
    from qfm_iqm.scoring.table import read_scores
    from qfm_iqm.scoring.video import read_frames

    if len(tables) > 2:
        raise QFMError(f"A report takes one or two score tables, not {len(tables)}.")
    if threshold is not None and not math.isfinite(threshold):
        raise QFMError(f"--threshold must be a finite number, not {threshold:g}.")
    if len(tables) == 2:
        own = {"--threshold": threshold, "--maps": maps, "--frames": frames}
        refuse_idle(own, "on two tables")
    check_distinct({"--out": out}, [*tables, frames])
    check_output(out, ".html", mark=PAGE_MARK)
    if root is not None and not root.is_dir():
        raise QFMError(f"--root {root}: there is no such folder.")
    console = messages()
    read = [read_scores(path) for path in tables]
    named = model or model_of(read)
    if named is None:
        refuse_idle(
            {"--maps": maps},
            "if the model that scored is unknown",
            or_else=", or name it with --model",
        )
    maps = 12 if maps is None else maps
    card = read_card(find_model(named) / CARD_FILE) if named else None
    scored_by = list(dict.fromkeys(name for table in read for name in table.models))
    if card is not None and scored_by and card.name not in scored_by:
        raise QFMError(
            f"--model {model} did not score these images, {', '.join(scored_by)} did: leave "
            "--model out, or name that one."
        )
    label = card.label.shown if card else LabelUnits()
    place = Place(out, root or Path())

    progress = partial(with_progress, console=console)
    first, *others = read
    if others:
        page = comparison_page(
            first, others[0], place, label, title=title or "Two scores compared", count=thumbnails,
            progress=progress,
        )  # fmt: skip
    else:
        explainer = explainer_of(named) if named and maps else None
        if named and maps and explainer is None:
            say(
                console,
                f"{named} is an exported model and draws no quality maps: the page has none.",
            )
        page = scores_page(
            first, place, label, title=title or "Image quality", threshold=threshold,
            count=thumbnails, frames=read_frames(frames) if frames else (),
            explainer=explainer, maps=maps, progress=progress,
        )  # fmt: skip
    write_page(page, out, console)


def report_rows(
    rows: Iterable[ScoreRow],
    frames: Iterable[FrameScore],
    source: str,
    out: Path,
    label: LabelUnits,
    explainer: QualityModel | None,
    console: Console,
) -> None:
    """Writes the page for rows just scored; image paths are relative to the current folder.

    Args:
        rows: score rows of the images.
        frames: frame scores of the videos among them.
        source: description of the images' source.
        out: HTML file to write.
        label: units of the scores.
        explainer: model that draws quality maps; None leaves them out.
        console: console for messages.
    """
    from qfm_iqm.report.scores import Place, scores_page
    from qfm_iqm.scoring.table import table_of

    page = scores_page(
        table_of(rows, source), Place(out, Path()), label.shown, frames=frames,
        explainer=explainer,
        progress=partial(with_progress, console=console),
    )  # fmt: skip
    write_page(page, out, console)


def explainer_of(model: str, scoring: Runtime | None = None) -> QualityModel | None:
    """The torch model that draws quality maps; None for an exported model, which cannot.

    Args:
        model: name of the model.
        scoring: the runtime that scores, whose torch model is taken if it has one.
    """
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.model.locate import find_model
    from qfm_iqm.scoring.runtimes.export_folder import is_exported

    own: QualityModel | None = getattr(scoring, "model", None)
    return own or (None if is_exported(find_model(model)) else load_model(model))


def write_page(page: str, out: Path, console: Console) -> None:
    """Writes a page and prints its size."""
    write_whole(page, out)
    say(console, f"Written to {out} ({len(page) / 1e6:.1f} MB).")


def model_of(tables: list[ScoreTable]) -> str | None:
    """The one model of the tables, if the package has it.

    For any other model the scale is unknown, and higher is taken as better.
    """
    from qfm_iqm.model.locate import packaged_models

    names = {name for table in tables for name in table.models}
    return names.pop() if len(names) == 1 and names <= set(packaged_models()) else None
