"""Figure of a diagnosis: aliasing, sensitivities, responses, and pairs of photos.

Design choices:
* Lines differ in markers as well as in colors.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.metrics.aliasing import AliasedPair, Aliasing
from qfm_iqm.metrics.diagnosis import Diagnosis
from qfm_iqm.report.drawing import BLUE, FAINT, GRAY, GREEN, INK, ORANGE, QUIET, VERMILION, save

_LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
_WIDTH, _PANELS, _ROW = 13.0, 4.25, 2.5  # inches: figure width, panel height, height of a row
_MARGIN, _PHOTO, _GAP = 0.4, 1.42, 0.05  # inches
_SIDE = 213  # side of a thumbnail in pixels
_SHOWN = 4  # pairs per row


def draw_diagnosis(diagnosis: Diagnosis, paths: Sequence[Path], out: Path) -> None:
    """Draws a diagnosis as SVG or PNG, by the file extension.

    Args:
        diagnosis: the diagnosis.
        paths: files of its images in order, for the thumbnails of pairs.
        out: file to write; replaced only when the new one is complete.

    Raises:
        TableError: the file has another extension or cannot be written.
        ImageError: a photo of a pair cannot be read.
    """
    save(lambda: _figure(diagnosis, paths), out, title=f"Diagnosis of {diagnosis.model}")


def _figure(diagnosis: Diagnosis, paths: Sequence[Path]) -> Figure:
    """The whole figure: three panels, and below a row of pairs for each feature space."""
    spaces = [("the trained features", diagnosis.trained)]
    if diagnosis.backbone is not None:
        spaces.insert(0, ("the public backbone's features", diagnosis.backbone))
    figure = Figure(figsize=(_WIDTH, _PANELS + _ROW * len(spaces)), facecolor="white")
    name = diagnosis.model if len(diagnosis.model) <= 36 else f"{diagnosis.model[:35]}…"
    title = f"What does {name} respond to: quality or semantics?"
    _write(figure, _MARGIN, 0.3, title, size=17, weight="bold")
    summary = f"{len(diagnosis.names)} rated photos. {_verdict(diagnosis)}"
    _write(figure, _MARGIN, 0.68, summary, size=11, color=QUIET)
    _draw_aliasing(_panel(figure, 1.4, 2.3), diagnosis)
    _draw_sensitivities(_panel(figure, 5.4, 2.1), diagnosis)
    _draw_responses(_panel(figure, 8.45, 3.45), diagnosis)
    for row, (space, found) in enumerate(spaces):
        _draw_pairs(figure, _PANELS + row * _ROW, space, found, diagnosis, paths)
    return figure


def _verdict(diagnosis: Diagnosis) -> str:
    """The selectivity in a sentence, or why there is none."""
    if diagnosis.selectivity is None:
        return diagnosis.selectivity_missing
    return (
        f"Degrading a photo changes its score {diagnosis.selectivity:.1f} times as much as adding "
        "another photo's semantics: this is the selectivity."
    )


def _draw_aliasing(axes: Axes, diagnosis: Diagnosis) -> None:
    """Aliasing rates as bars: random pairs, the public backbone, the trained encoder."""
    found = diagnosis.trained
    rates = {"random pairs": (found.random_rate, GRAY)}
    if diagnosis.backbone is not None:
        rates["public\nbackbone"] = (diagnosis.backbone.rate, ORANGE)
    rates["trained\nencoder"] = (found.rate, BLUE)
    subtitle = f"share of the {found.neighbors} nearest photos whose MOS\n{_apart(found)}"
    _title(axes, 1.0, "Feature aliasing", subtitle)
    _bars(axes, rates, "{:.1%}")


def _draw_sensitivities(axes: Axes, diagnosis: Diagnosis) -> None:
    """S_n and S_q as bars."""
    sizes = {
        "semantics\nadded, $S_n$": (diagnosis.noise_sensitivity, VERMILION),
        "quality\ndegraded, $S_q$": (diagnosis.quality_sensitivity, GREEN),
    }
    subtitle = (
        "mean change of the score, in label std;\n"
        f"added: {diagnosis.alpha:g} × another photo's features"
    )
    _title(axes, 1.1, "Sensitivity", subtitle)
    _bars(axes, sizes, "{:.3f}")


def _bars(axes: Axes, values: Mapping[str, tuple[float, str]], pattern: str) -> None:
    """Horizontal bars with names and values, the first on top."""
    sizes, colors = zip(*values.values(), strict=True)
    bars = axes.barh(list(values), sizes, color=colors, height=0.62)
    axes.bar_label(bars, [pattern.format(size) for size in sizes], padding=4, fontweight="bold")
    axes.set_xlim(0, max(1.25 * max(sizes), 1e-3))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(left=False, labelcolor=INK)
    axes.spines["bottom"].set_visible(False)


def _draw_responses(axes: Axes, diagnosis: Diagnosis) -> None:
    """The response to each degradation by level, with the sensitivity to semantic noise."""
    _title(
        axes,
        0.35,
        "Response to each degradation",
        "solid: mean change of the score, in label std;\n"
        "dotted: mean drop, less where some photos seem to gain",
    )
    ends = {}
    for (kind, responses), (color, marker) in zip(
        diagnosis.by_distortion.items(), cycle(_LINES), strict=False
    ):
        levels = [response.level for response in responses]
        changes = [response.change for response in responses]
        axes.plot(levels, changes, color=color, marker=marker, markersize=5, linewidth=2)
        drops = [response.drop for response in responses]
        axes.plot(levels, drops, color=color, linestyle=":", linewidth=1.6)
        ends[kind] = (changes[-1], color)
    axes.axhline(diagnosis.noise_sensitivity, color=VERMILION, linewidth=1.4, linestyle="--")
    ends["$S_n$"] = (diagnosis.noise_sensitivity, VERMILION)
    axes.set_xlim(0.8, max(levels) + 0.15)
    axes.set_xticks(levels, [f"{level}" for level in levels])
    axes.set_xlabel(f"level, 1 (just visible) to {max(levels)} (severe)")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high := max(high, 0.1))  # do not magnify tiny changes
    places = _spread([height for height, _ in ends.values()], 0.12 * (high - low))
    for (name, (_, color)), place in zip(ends.items(), places, strict=True):
        axes.annotate(
            name, (1.02, place), xycoords=("axes fraction", "data"),
            color=color, fontweight="bold", va="center", annotation_clip=False,
        )  # fmt: skip


def _draw_pairs(
    figure: Figure,
    down: float,
    name: str,
    found: Aliasing,
    diagnosis: Diagnosis,
    paths: Sequence[Path],
) -> None:
    """Draws a row of aliased pairs, `down` inches from the top: two labeled thumbnails each."""
    _write(figure, _MARGIN, down, f"Near in {name}, far in quality", size=12, weight="bold")
    pairs = _without_repeats(found.pairs)[:_SHOWN]
    if not pairs:
        none = f"There is no such pair: no MOS of the nearest photos {_apart(found)}."
        _write(figure, _MARGIN, down + 0.32, none, color=QUIET)
    step = (_WIDTH - 2 * _MARGIN + 0.3) / _SHOWN
    for place, pair in enumerate(pairs):
        left = _MARGIN + place * step
        caption = f"cosine {pair.similarity:.2f}, labels {pair.label_gap:.1f} std apart"
        _write(figure, left, down + 0.32, caption, size=9, color=QUIET)
        for side, row in enumerate((pair.first, pair.second)):
            x, y = left + side * (_PHOTO + _GAP), down + 0.54
            axes = _axes(figure, x, y, _PHOTO, _PHOTO)
            axes.imshow(thumbnail(paths[row]))
            axes.set_axis_off()
            _write(figure, x, y + _PHOTO + 0.06, f"MOS {diagnosis.mos[row]:#.3g}", weight="bold")


def _without_repeats(pairs: Iterable[AliasedPair]) -> list[AliasedPair]:
    """The pairs in order, without those that share a photo with an earlier pair."""
    seen: set[int] = set()
    kept = []
    for pair in pairs:
        if not seen & {pair.first, pair.second}:
            kept.append(pair)
            seen |= {pair.first, pair.second}
    return kept


def thumbnail(path: Path) -> Bytes:
    """The center square of a photo as (side, side, 3) pixels."""
    photo = Image.fromarray(read_image_uint8(path).transpose(1, 2, 0))
    return np.asarray(ImageOps.fit(photo, (_SIDE, _SIDE)))


def _spread(heights: Sequence[float], apart: float) -> list[float]:
    """Heights for labels: in the same order, at least `apart` apart, close to the originals."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [heights[i] for i in order]
    for _ in range(100):  # neighbors that are too close push each other apart
        for i in range(len(placed) - 1):
            push = (apart - (placed[i + 1] - placed[i])) / 2
            if push > 0:
                placed[i] -= push
                placed[i + 1] += push
    back = dict(zip(order, placed, strict=True))
    return [back[i] for i in range(len(heights))]


def _apart(found: Aliasing) -> str:
    """The condition of an aliased pair, in words."""
    return f"is more than {found.threshold:g} std away"


def _panel(figure: Figure, left: float, width: float) -> Axes:
    """Axes of one of the panels, which have equal heights."""
    return _axes(figure, left, 1.92, width, _PANELS - 2.75)


def _axes(figure: Figure, left: float, down: float, width: float, height: float) -> Axes:
    """Axes with the upper left corner at `left` and `down` inches from the figure's."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (down + height) / h, width / w, height / h))


def _title(axes: Axes, indent: float, title: str, subtitle: str) -> None:
    """Writes a panel's title and gray subtitle, starting `indent` inches left of the axes."""
    heading: dict[str, Any] = {"fontsize": 12, "fontweight": "bold"}
    quiet: dict[str, Any] = {"fontsize": 9, "color": QUIET, "linespacing": 1.3}
    for text, up, style in ((title, 46, heading), (subtitle, 15, quiet)):
        axes.annotate(
            text, (0, 1), xytext=(-72 * indent, up), xycoords="axes fraction",
            textcoords="offset points", annotation_clip=False, **style,
        )  # fmt: skip


def _write(
    figure: Figure,
    left: float,
    down: float,
    text: str,
    *,
    size: float = 9.5,
    weight: str = "normal",
    color: str = INK,
) -> None:
    """Writes text with the upper left corner at `left` and `down` inches from the figure's."""
    w, h = figure.get_size_inches()
    figure.text(
        left / w, 1 - down / h, text,
        fontsize=size, fontweight=weight, color=color, va="top", parse_math=False,
    )  # fmt: skip
