"""Presents an ablation's comparisons as a Markdown table and a forest plot.

Both show SRCC on the whole and, if there are subsets, the mean over subsets, because a model can do
well on the whole by merely separating the subsets.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qfm_iqm.metrics.paired_runs import Comparison
from qfm_iqm.report.drawing import BLUE, FAINT, ORANGE, QUIET, save
from qfm_iqm.text_tables import markdown_row

SUBSETS = {"whole": "whole", "subset_mean": "mean over subsets"}
_COLORS = {"whole": (ORANGE, "s"), "subset_mean": (BLUE, "o")}
_PANEL, _ROW, _HEAD, _FOOT, _NAMES = 3.6, 0.36, 1.45, 0.75, 1.7  # inches
_LETTER = 0.085  # largest width of a letter of a variant's name in inches; 1.5 times in the title


def ablation_table(comparisons: Sequence[Comparison]) -> str:
    """A Markdown table for each setting: SRCC of every variant, and its paired differences.

    Args:
        comparisons: comparisons from `metrics.paired_runs.compare`.
    """
    shown = _shown(comparisons)
    text = []
    for setting in _names(c.setting for c in shown):
        inside = [c for c in shown if c.setting == setting]
        references = _names(c.reference for c in inside)
        subsets = _names(c.subset for c in inside)
        head = ["variant", "runs"]
        for subset in subsets:
            head.append(f"SRCC, {SUBSETS[subset]}")
            head += [f"minus {reference}" for reference in references]
        text += [f"### {setting}", "", markdown_row(head), markdown_row(["---"] * len(head))]
        for variant in _names(c.variant for c in inside):
            own = {(c.subset, c.reference): c for c in inside if c.variant == variant}
            cells = [variant, str(max(c.pairs for c in own.values()))]
            for subset in subsets:
                found = [own.get((subset, reference)) for reference in references]
                cells.append(next(f"{c.median:.3f}" for c in found if c is not None))
                cells += map(difference, found)
            text.append(markdown_row(cells))
        text.append("")
    text.append(
        "SRCC: median over runs. Differences: mean over pairs of runs of one seed, with the 95 % "
        "bootstrap interval over pairs; the p of Wilcoxon's signed-rank test is in the CSV."
    )
    return "\n".join(text) + "\n"


def draw_ablation(comparisons: Sequence[Comparison], out: Path) -> None:
    """Draws every variant's paired difference to the first reference, as SVG or PNG.

    Args:
        comparisons: comparisons from `metrics.paired_runs.compare`.
        out: file to write; replaced only when the new one is complete.

    Raises:
        TableError: the file has another extension or cannot be written.
    """
    shown = _shown(comparisons)
    reference = shown[0].reference
    shown = [c for c in shown if c.reference == reference]
    save(lambda: _figure(shown, reference), out, title=f"Ablation: difference to {reference}")


def _figure(shown: Sequence[Comparison], reference: str) -> Figure:
    settings = _names(c.setting for c in shown)
    variants = [name for name in _names(c.variant for c in shown) if name != reference]
    title = f"Paired difference of SRCC to {reference}"
    names = max(_NAMES, 0.3 + _LETTER * max(map(len, variants), default=0))
    width = max(names + _PANEL * len(settings), 1.5 * _LETTER * len(title)) + 0.3
    height = _HEAD + _ROW * len(variants) + _FOOT
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(0.2 / width, 1 - 0.35 / height, title, fontsize=15, fontweight="bold", va="center")
    for column, setting in enumerate(settings):
        left = names + column * _PANEL
        box = (left / width, _FOOT / height, (_PANEL - 0.35) / width, _ROW * len(variants) / height)
        axes = figure.add_axes(box)
        _draw_setting(axes, [c for c in shown if c.setting == setting], variants, reference)
        axes.set_yticks(range(len(variants)), variants if column == 0 else [""] * len(variants))
        axes.tick_params(axis="y", length=0, labelcolor="#222222")
    for place, subset in enumerate(_names(c.subset for c in shown)):
        color, marker = _COLORS[subset]
        x = (0.3 + place * 1.1) / width
        figure.text(x, 1 - 0.72 / height, f"{'●' if marker == 'o' else '■'} {SUBSETS[subset]}",
                    color=color, fontsize=10, va="center")  # fmt: skip
    if any(c.pairs > 1 for c in shown):
        note = "Bars: 95 % bootstrap interval over pairs of runs of one seed."
        figure.text(0.2 / width, 0.18 / height, note, fontsize=8.5, color=QUIET, va="center")
    return figure


def _draw_setting(
    axes: Axes, inside: Sequence[Comparison], variants: Sequence[str], reference: str
) -> None:
    """One setting's panel: a row for each variant, a bar for each subset."""
    axes.axvline(0, color=QUIET, linewidth=1)
    subsets = _names(c.subset for c in inside)
    for c in inside:
        if c.variant == reference:
            continue
        offset = 0.16 * (2 * subsets.index(c.subset) - (len(subsets) - 1))
        y = variants.index(c.variant) + offset
        color, marker = _COLORS[c.subset]
        axes.plot((c.ci_low, c.ci_high), (y, y), color=color, linewidth=1.6)
        axes.plot(c.mean_difference, y, color=color, marker=marker, markersize=5.5)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    axes.spines["left"].set_visible(False)
    known = {c.subset: c.median for c in inside if c.variant == reference}
    told = ", ".join(f"{SUBSETS[subset]} {median:.3f}" for subset, median in known.items())
    runs = max(c.pairs for c in inside)
    each = f"{runs} {'runs' if runs > 1 else 'run'} each"
    axes.set_title(
        f"{inside[0].setting}  ({each})", loc="left", fontsize=10.5, fontweight="bold", pad=20
    )
    axes.annotate(
        f"{reference}: {told}", (0, 1), (0, 6), xycoords="axes fraction",
        textcoords="offset points", fontsize=8.5, color=QUIET,
    )  # fmt: skip
    axes.set_xlabel(f"SRCC minus {reference}'s", fontsize=9)


def _shown(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of SRCC, first on the whole, then as mean over subsets."""
    chosen = [c for c in comparisons if c.metric == "srcc" and c.subset in SUBSETS]
    return sorted(chosen, key=lambda c: list(SUBSETS).index(c.subset))


def difference(c: Comparison | None) -> str:
    """A mean difference and its interval as a cell; a dash if nothing is compared."""
    if c is None or c.reference == c.variant:
        return "–"
    interval = f" ({c.ci_low:+.3f} to {c.ci_high:+.3f})" if c.pairs > 1 else ""
    return f"{c.mean_difference:+.3f}{interval}"


def _names(values: Iterable[str]) -> list[str]:
    """Unique values, in order of appearance."""
    return list(dict.fromkeys(values))
