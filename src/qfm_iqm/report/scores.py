"""Report on one score table: its data and the page.

The page contains only names, numbers and thumbnails. It refers to the photos by paths relative to
its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from qfm_iqm.errors import QFMError
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.report.maps import map_data
from qfm_iqm.report.page import render, words_of
from qfm_iqm.report.thumbnails import thumbnails, worth_showing
from qfm_iqm.scoring.table import ScoreTable
from qfm_iqm.scoring.video import FrameScore

if TYPE_CHECKING:  # the import would load torch, which is only needed for maps
    from qfm_iqm.model.model import QualityModel

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterator to show progress: called as `(items, total, what)`."""

    def __call__(self, items: Iterator[T], total: int, what: str, /) -> Iterator[T]:
        """Yields the items."""


def silent(items: Iterator[T], _total: int, _what: str) -> Iterator[T]:
    """Shows no progress."""
    return items


_APART = ("path", "status", "error")  # stored as folders and names, and as errors by row
_LEFT_OUT = ("sha256", "seconds")  # not needed by readers, and large
FEW = 1000  # most different values of a column that is stored as codes
POINTS = 240  # points of a curve: about the pixels of a dialog's column
SCRIPTS = (
    "common.js",
    "photo.js",
    "detail.js",
    "table.js",
    "histogram.js",
    "gallery.js",
)


@dataclass(frozen=True)
class Place:
    """The locations of a report and of the images.

    Attributes:
        report: the HTML file.
        root: base folder of the images' paths.
    """

    report: Path
    root: Path

    def file(self, path: str) -> str:
        """The path of an image for opening it in this process."""
        return os.path.join(self.root, path)  # noqa: PTH118 - keeps names as they are

    def url(self, folder: str) -> str:
        """A folder as a URL relative to the report, with a trailing slash."""
        target = os.path.abspath(self.file(folder))  # noqa: PTH100 - as above
        try:
            relative = os.path.relpath(target, os.path.abspath(self.report.parent))  # noqa: PTH100
        except ValueError:  # on another drive
            return Path(target).as_uri() + "/"
        return quote(os.fsencode(relative.replace(os.sep, "/"))) + "/"


def split_path(path: str) -> tuple[str, str]:
    """Splits a path into its folder, including the slash, and its name."""
    cut = max(path.rfind("/"), path.rfind(os.sep)) + 1
    return path[:cut], path[cut:]


def table_data(table: ScoreTable, place: Place) -> dict[str, Any]:
    """A table in the page's format: packed columns, unique folders, errors by row."""
    folders: dict[str, int] = {}
    parts = [split_path(path) for path in table.paths]
    of_row = [folders.setdefault(folder, len(folders)) for folder, _ in parts]
    columns: dict[str, list[Any]] = {"folder": of_row, "name": [name for _, name in parts]}
    said = {  # without empty columns, such as those of missing reference statistics
        name: column
        for name, column in table.columns.items()
        if name not in _LEFT_OUT
        and (name in ("path", "score", "error") or any(value not in (None, "") for value in column))
    }
    columns |= {name: column for name, column in said.items() if name not in _APART}
    return {
        "rows": len(of_row),
        "columns": {name: packed(column) for name, column in columns.items()},
        "order": list(said),
        "folders": [{"name": name, "url": place.url(name)} for name in folders],
        "errors": {row: error for row, error in enumerate(table.columns["error"]) if error},
    }


def packed(column: Sequence[Any]) -> Any:
    """Packs a column: `{"all": value}` for one value, `{"values", "codes"}` for few, or unchanged.

    Args:
        column: numbers, texts or flags of one type, and None.
    """
    codes: dict[Any, int] = {}
    code_N = [codes.setdefault(value, len(codes)) for value in column]
    if len(codes) == 1:
        return {"all": column[0]}
    if column and len(codes) <= min(FEW, len(column) // 4):
        return {"values": list(codes), "codes": code_N}
    return column


def curves(frames: Iterable[FrameScore], paths: Sequence[str]) -> dict[int, list[list[float]]]:
    """Score curves of videos by row number: seconds and scores.

    In longer videos each point is the mean of several frames, so that a page stays small.

    Args:
        frames: frames of videos, in order of time.
        paths: paths of the rows.
    """
    rows = {path: row for row, path in enumerate(paths)}
    found: dict[int, list[FrameScore]] = {}
    for frame in frames:
        if (row := rows.get(frame.path)) is not None:
            found.setdefault(row, []).append(frame)
    return {row: _thinned(of_video) for row, of_video in found.items()}


def _thinned(frames: Sequence[FrameScore]) -> list[list[float]]:
    step = -(-len(frames) // POINTS)
    groups = [frames[start : start + step] for start in range(0, len(frames), step)]
    times = [round(group[0].time, 2) for group in groups]
    scores = [round(sum(frame.score for frame in group) / len(group), 2) for group in groups]
    return [times, scores]


def scores_page(
    table: ScoreTable,
    place: Place,
    label: LabelUnits,
    *,
    title: str = "Image quality",
    threshold: float | None = None,
    count: int = 500,
    frames: Iterable[FrameScore] = (),
    explainer: QualityModel | None = None,
    maps: int = 12,
    progress: Progress = silent,
) -> str:
    """Renders the report as one HTML file.

    Args:
        table: the scores.
        place: locations of the report and the images.
        label: scale and direction of the scores.
        title: heading of the page.
        threshold: initial threshold; None puts it at the worst tenth.
        frames: frames of the videos, for drawing their curves.
        count: number of thumbnails, of the worst images and a cross-section of the others.
        explainer: the model that scored the images, for quality maps; None draws no maps.
        maps: number of the worst images that get a map.
        progress: wraps the iterators of slow steps.
    """
    shown = worth_showing(table.scores, count, higher_is_better=label.higher_is_better)
    worst_at = table.columns.get("worst_at", [None] * len(table))
    coming = thumbnails(
        [place.file(table.paths[row]) for row in shown], [worst_at[row] for row in shown]
    )
    pictures = progress(coming, len(shown), "thumbnails")
    models = table.models
    ends = f"{label.minimum:g} to {label.maximum:g}" if label.span is not None else ""
    scale = f"{label.name}, {ends}" if ends else ""
    scored_by = f"scored by {', '.join(models)}" if models else ""
    data = table_data(table, place)
    data |= {
        "meta": [part for part in (table.source, scored_by, scale) if part],
        "label": label.model_dump(),
        "words": words_of(data["order"]),
        "threshold": threshold,
        "thumbnails": {
            row: picture for row, picture in zip(shown, pictures, strict=True) if picture
        },
        "curves": curves(frames, table.paths),
        "maps": {} if explainer is None else _maps(explainer, table, place, maps, progress),
    }
    return render(
        "report.html",
        title=title,
        styles=["base.css", "report.css"],
        scripts=[*SCRIPTS, "curve.js", "report.js"],
        data=data,
    )


def _maps(
    model: QualityModel, table: ScoreTable, place: Place, count: int, progress: Progress
) -> dict[int, dict[str, Any]]:
    """Quality maps of the worst images by row; missing files have none."""
    label = model.card.label.shown
    order = worth_showing(table.scores, len(table), higher_is_better=label.higher_is_better)[:count]
    found = {}
    for row in progress(iter(order), len(order), "quality maps"):
        with suppress(QFMError):  # also if the model cannot draw maps
            found[row] = map_data(model.explain(place.file(table.paths[row])), label)
    return found
