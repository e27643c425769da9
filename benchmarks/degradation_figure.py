"""Draws mean score by level of degradation, one panel per set of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure

from qfm_iqm.report.drawing import BLUE, FAINT, GRAY, GREEN, INK, ORANGE, VERMILION, save

_LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"), (GRAY, "v"), (INK, "x"))
_PANEL, _HEIGHT, _LEGEND = 4.4, 3.6, 1.6  # inches


def draw_degradation(
    curves: Mapping[str, Mapping[str, Sequence[float]]], model: str, out: Path
) -> None:
    """Draws the mean scores, as SVG or PNG by the file extension.

    Args:
        curves: mean scores from level 0 (clean) on, by set of photos and degradation.
        model: name of the model, for the title.
        out: file to write; replaced only when the new one is complete.

    Raises:
        TableError: the file has another extension or cannot be written.
    """
    title = f"Score of {model} by level of degradation"
    save(lambda: _figure(curves, title), out, title=title)


def _figure(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    figure = Figure(figsize=(_PANEL * len(curves) + _LEGEND, _HEIGHT), facecolor="white")
    figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=13)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (name, by_kind) in zip(panels, curves.items(), strict=True):
        for (kind, means), (color, marker) in zip(by_kind.items(), cycle(_LINES), strict=False):
            axes.plot(range(len(means)), means, color=color, marker=marker, label=kind)
        axes.set_title(name, loc="left", fontsize=10.5)
        axes.set_xlabel("level, 0 (clean) to 5 (severe)")
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
    panels[0].set_ylabel("mean score")
    panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    right = 1 - _LEGEND / figure.get_figwidth()
    figure.subplots_adjust(left=0.08, right=right, top=0.84, bottom=0.15)
    return figure
