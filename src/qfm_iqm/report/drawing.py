"""Shared code of all figures: colors, fonts, and saving.

Design choices:
* Colors are Okabe and Ito's, which are safe for color blindness.
* No global state: a figure is an object, drawn by Agg or as SVG, with reproducible bytes.
* Text in an SVG stays text, so that it can be searched and read aloud.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from qfm_iqm.files import check_output, replacing

ENDINGS = (".svg", ".png")

INK, QUIET, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, ORANGE, VERMILION, GREEN, GRAY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#999999"
_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "svg.fonttype": "none",
    "svg.hashsalt": "qfm",
}
_ON_DARK, _QUIET_ON_DARK, _FAINT_ON_DARK = "#e6e6e6", "#b0b0b0", "#4a4a4a"
_DARK: dict[Any, Any] = _STYLE | {
    "text.color": _ON_DARK,
    "axes.labelcolor": _QUIET_ON_DARK,
    "axes.edgecolor": _FAINT_ON_DARK,
    "xtick.color": _QUIET_ON_DARK,
    "ytick.color": _QUIET_ON_DARK,
    "axes.facecolor": "none",
}


def save(draw: Callable[[], Figure], out: Path, *, title: str, dark: bool = False) -> None:
    """Draws a figure in the common style and saves it as SVG or PNG, by the file extension.

    Args:
        draw: draws the figure.
        out: file to write; replaced only when the new one is complete.
        title: title in the file's metadata.
        dark: for a dark page: light text without background.

    Raises:
        TableError: the file has another extension or cannot be written.
    """
    check_output(out, *ENDINGS)
    ending = out.suffix.lower()
    facts: dict[str, str | None] = {"Title": title}
    if ending == ".svg":
        facts["Date"] = None  # a date would change the bytes of the same figure
    with matplotlib.rc_context(_DARK if dark else _STYLE):
        figure = draw()
        if dark:
            figure.set_facecolor("none")
        with replacing(out) as partial:
            figure.savefig(partial, format=ending[1:], dpi=150, metadata=facts)
