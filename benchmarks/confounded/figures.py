"""Presents the confounding experiment: tables, a figure of gains, and the clusters."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from confounded.measures import Gain
from qfm_iqm.metrics.paired_runs import Comparison
from qfm_iqm.report.ablation import difference
from qfm_iqm.report.diagnosis_figure import thumbnail
from qfm_iqm.report.drawing import BLUE, QUIET, save
from qfm_iqm.text_tables import markdown_row

_HEAD = ("variant", "runs", "SRCC within clusters", "minus none", "minus random", "gap",
         "selectivity, ratio to none")  # fmt: skip
_PANELS = 4  # panels per row of the figure
_ACROSS = 8  # photos per row; each cluster has two rows


def confounding_table(comparisons: Sequence[Comparison], told: str) -> str:
    """The verdict and a Markdown table for each setting.

    Args:
        comparisons: comparisons from `metrics.paired_runs.compare`.
        told: the verdict in sentences.
    """
    by_key = {(c.setting, c.variant, c.reference, c.metric): c for c in comparisons}
    text = [told, ""]
    for setting in dict.fromkeys(c.setting for c in comparisons):
        text += [f"### {setting}", "", markdown_row(_HEAD), markdown_row(["---"] * len(_HEAD))]
        for variant in dict.fromkeys(c.variant for c in comparisons if c.setting == setting):
            of = {
                (reference, metric): by_key.get((setting, variant, reference, metric))
                for reference in ("none", "random")
                for metric in ("srcc", "gap", "log_selectivity")
            }
            own = of["none", "srcc"] or of["random", "srcc"]
            if own is None:
                continue
            gap, ratio = of["none", "gap"] or of["random", "gap"], of["none", "log_selectivity"]
            cells = [variant, str(own.pairs), f"{own.median:.3f}"]
            cells += [difference(of[reference, "srcc"]) for reference in ("none", "random")]
            cells.append("–" if gap is None else f"{gap.median:+.3f}")
            cells.append("–" if ratio is None else f"{2.718281828**ratio.mean_difference:.3f}")
            text.append(markdown_row(cells))
        text.append("")
    text.append(
        "SRCC and gap: median over seeds. Differences: mean over pairs of runs of one seed, with "
        "the 95 % t interval. Ratio of selectivity: geometric mean over pairs."
    )
    return "\n".join(text) + "\n"


def draw_gains(gains: Mapping[str, Mapping[float, Gain]], out: Path, *, dark: bool = False) -> None:
    """Draws each variant's gain over `random` against rho, as SVG or PNG.

    Each panel shows a variant's mean over paired seeds with its 95 % t interval and, dashed, the
    mean of "oracle", the ceiling. Variants that were run at one rho are left out if others were run
    at several.

    Args:
        gains: gains by variant and rho.
        out: file to write; replaced only when the new one is complete.
        dark: draw for a dark page.

    Raises:
        TableError: the file has another extension or cannot be written.
    """
    save(
        lambda: _gains(gains),
        out,
        title="Gain over a random photo's features, by confounding",
        dark=dark,
    )


def _gains(gains: Mapping[str, Mapping[float, Gain]]) -> Figure:
    most = max((len(of_rho) for of_rho in gains.values()), default=0)
    drawn = {name: of_rho for name, of_rho in gains.items() if len(of_rho) > (most > 1)}
    rhos = sorted({rho for of_rho in drawn.values() for rho in of_rho})
    rows = max(1, math.ceil(len(drawn) / _PANELS))
    figure = Figure(figsize=(9, 0.9 + 1.75 * rows), facecolor="white", layout="constrained")
    panels = figure.subplots(rows, _PANELS, sharex=True, sharey=True, squeeze=False).flat
    oracle = drawn.get("oracle", {})
    place = {rho: number for number, rho in enumerate(rhos)}  # evenly spaced: most are close to 1
    ceiling = [place[rho] for rho in oracle], [gain.mean for gain in oracle.values()]
    for (name, of_rho), axes in zip(drawn.items(), panels, strict=False):
        lows, means, highs = (
            [getattr(gain, end) for gain in of_rho.values()] for end in ("low", "mean", "high")
        )
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.plot(*ceiling, color=QUIET, linewidth=1.2, linestyle="--")
        places = [place[rho] for rho in of_rho]
        axes.fill_between(places, lows, highs, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(places, means, color=BLUE, marker="o", markersize=3.5, linewidth=1.8)
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    for axes in panels:  # the rest of the last row
        axes.set_axis_off()
    figure.supxlabel("rho: how far content predicts quality in training", fontsize=9.5)
    figure.supylabel("SRCC within clusters, minus random's", fontsize=9.5)
    return figure


def draw_clusters(ends: tuple[Sequence[Path], Sequence[Path]], out: Path) -> None:
    """Draws a contact sheet with each cluster's photos that are farthest from the other cluster.

    Args:
        ends: files of clusters A and B, farthest first.
        out: file to write, SVG or PNG.
    """
    save(lambda: _clusters(ends), out, title="The two clusters")


def _clusters(ends: tuple[Sequence[Path], Sequence[Path]]) -> Figure:
    figure = Figure(figsize=(_ACROSS * 1.4, 6.6), facecolor="white")
    for cluster, paths in enumerate(ends):
        figure.text(0.01, 0.97 - 0.5 * cluster, f"Cluster {'AB'[cluster]}", fontweight="bold")
        for place, path in enumerate(paths[: 2 * _ACROSS]):
            row, column = divmod(place, _ACROSS)
            bottom = 0.74 - 0.5 * cluster - 0.22 * row
            axes = figure.add_axes((column / _ACROSS, bottom, 0.98 / _ACROSS, 0.21))
            axes.imshow(thumbnail(path))
            axes.set_axis_off()
    return figure
