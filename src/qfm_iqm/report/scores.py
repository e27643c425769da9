"""The report on one table of scores: what stands in it, as plain data, and the page.

Only names, numbers and small pictures go into the page. Photos stay where they are: the page
finds them by their place relative to its own.
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
from qfm_iqm.report.curves import curves
from qfm_iqm.report.maps import map_data
from qfm_iqm.report.page import render, words_of
from qfm_iqm.report.thumbnails import thumbnails, worth_showing
from qfm_iqm.scoring.table import ScoreTable
from qfm_iqm.scoring.video import FrameScore

if TYPE_CHECKING:  # it brings torch, which a report without maps and a gate do not need
    from qfm_iqm.model.model import QualityModel

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on and shows how far they are: `(items, how many, of what)`."""

    def __call__(self, items: Iterator[T], total: int, what: str, /) -> Iterator[T]:
        """Yields the items."""


def silent(items: Iterator[T], _total: int, _what: str) -> Iterator[T]:
    """Shows nothing."""
    return items


_APART = ("path", "status", "error")  # carried as folders and names, and as errors by row
_LEFT_OUT = ("sha256", "seconds")  # readers need neither, and both take much space
FEW = 1000  # different values at most that a column is written as codes of
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
    """Where a report will lie, and where the images are.

    Attributes:
        report: the HTML file.
        root: folder that the images' paths are relative to.
    """

    report: Path
    root: Path

    def file(self, path: str) -> str:
        """An image's path as this process can open it."""
        return os.path.join(self.root, path)  # noqa: PTH118 - keeps names as they are

    def url(self, folder: str) -> str:
        """A folder as a URL relative to the report, with a slash at its end."""
        target = os.path.abspath(self.file(folder))  # noqa: PTH100 - as above
        try:
            relative = os.path.relpath(target, os.path.abspath(self.report.parent))  # noqa: PTH100
        except ValueError:  # another drive
            return Path(target).as_uri() + "/"
        return quote(os.fsencode(relative.replace(os.sep, "/"))) + "/"


def split_path(path: str) -> tuple[str, str]:
    """A path as its folder, slash included, and its name."""
    cut = max(path.rfind("/"), path.rfind(os.sep)) + 1
    return path[:cut], path[cut:]


def table_data(table: ScoreTable, place: Place) -> dict[str, Any]:
    """A table as the page takes it: packed columns, folders once each, errors by row."""
    folders: dict[str, int] = {}
    parts = [split_path(path) for path in table.paths]
    of_row = [folders.setdefault(folder, len(folders)) for folder, _ in parts]
    columns: dict[str, list[Any]] = {"folder": of_row, "name": [name for _, name in parts]}
    said = {  # a model's card may hold no reference statistics: nothing says these columns then
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
    """A column in few bytes: `{"all": value}` of one value, `{"values", "codes"}` of few, or as is.

    Args:
        column: numbers, texts or flags of one kind, and None.
    """
    codes: dict[Any, int] = {}
    code_N = [codes.setdefault(value, len(codes)) for value in column]
    if len(codes) == 1:
        return {"all": column[0]}
    if column and len(codes) <= min(FEW, len(column) // 4):
        return {"values": list(codes), "codes": code_N}
    return column


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
    """The report as the text of one HTML file.

    Args:
        table: the scores.
        place: where it will lie, and where the images are.
        label: scale and direction of the scores.
        title: its heading.
        threshold: where the handle stands at first; None puts it at the worst tenth.
        frames: of the videos among the images, whose curves are drawn.
        count: thumbnails that it carries, of the worst images and a cross-section of the others.
        explainer: the model that scored, which then draws quality maps; None for no maps.
        maps: how many of the worst images get one.
        progress: wraps what takes long as it comes.
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
    """Quality maps of the worst images, by row; files that are gone have none."""
    label = model.card.label.shown
    order = worth_showing(table.scores, len(table), higher_is_better=label.higher_is_better)[:count]
    found = {}
    for row in progress(iter(order), len(order), "quality maps"):
        with suppress(QFMError):  # also of a model whose tokens make no map
            found[row] = map_data(model.explain(place.file(table.paths[row])), label)
    return found
