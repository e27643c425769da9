"""The confounding experiment, to be read: tables, a figure of gains, and both clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.figure import Figure

from qfm_iqm.metrics.confounding import Gain
from qfm_iqm.metrics.paired_runs import Comparison
from qfm_iqm.report.diagnosis_figure import thumbnail
from qfm_iqm.report.drawing import BLUE, FAINT, GRAY, GREEN, INK, ORANGE, QUIET, VERMILION, save

_LINES = ((VERMILION, "o"), (ORANGE, "s"), (GREEN, "^"), (BLUE, "D"), (GRAY, "v"), (INK, "x"))
_HEAD = ("variant", "runs", "SRCC within clusters", "minus none", "minus random", "gap",
         "selectivity, ratio to none")  # fmt: skip
_ACROSS = 8  # photos of each cluster side by side, in two rows


def confounding_table(comparisons: Sequence[Comparison], told: str) -> str:
    """The verdict and a Markdown table for each setting.

    Args:
        comparisons: of `metrics.paired_runs.compare`.
        told: the verdict in sentences.
    """
    by_key = {(c.setting, c.variant, c.reference, c.metric): c for c in comparisons}
    text = [told, ""]
    for setting in dict.fromkeys(c.setting for c in comparisons):
        text += [f"### {setting}", "", f"| {' | '.join(_HEAD)} |", "| --- " * len(_HEAD) + "|"]
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
            cells += [_difference(of[reference, "srcc"]) for reference in ("none", "random")]
            cells.append("–" if gap is None else f"{gap.median:+.3f}")
            cells.append("–" if ratio is None else f"{2.718281828**ratio.mean_difference:.3f}")
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    text.append(
        "SRCC and gap: median over seeds. Differences: mean over pairs of runs of one seed, with "
        "the 95 % t interval. Ratio of selectivity: geometric mean over pairs."
    )
    return "\n".join(text) + "\n"


def draw_gains(gains: Mapping[str, Mapping[float, Gain]], out: Path) -> None:
    """Draws each variant's gain over `random` against rho, as SVG or PNG.

    Args:
        gains: by variant, and within by rho; "oracle" is drawn as the ceiling.
        out: file to write; replaced only when the new one is complete.

    Raises:
        TableError: another ending, or a place that cannot be written to.
    """
    save(lambda: _gains(gains), out, title="Gain over a random photo's features, by confounding")


def _gains(gains: Mapping[str, Mapping[float, Gain]]) -> Figure:
    figure = Figure(figsize=(9, 5.2), facecolor="white")
    axes = figure.add_axes((0.09, 0.12, 0.64, 0.74))
    axes.axhline(0, color=QUIET, linewidth=1)
    others = [name for name in gains if name != "oracle" and gains[name]]
    styles = dict(zip(others, cycle(_LINES), strict=False))
    rhos = sorted({rho for of_rho in gains.values() for rho in of_rho})
    shift = {name: 0.0012 * (n - len(others) / 2) for n, name in enumerate(others)}
    for name in [*others, "oracle"]:
        of_rho = gains.get(name, {})
        color, marker = styles.get(name, (INK, "*"))
        places = [rho + shift.get(name, 0.0) for rho in of_rho]
        means = [gain.mean for gain in of_rho.values()]
        lows = [gain.mean - gain.low for gain in of_rho.values()]
        highs = [gain.high - gain.mean for gain in of_rho.values()]
        axes.errorbar(
            places, means, yerr=(lows, highs), color=color, marker=marker, markersize=5,
            elinewidth=1, linewidth=2.4 if name in ("qfm", "oracle") else 1.2,
            linestyle="--" if name == "oracle" else "-", label=name, capsize=2,
        )  # fmt: skip
    axes.set_xticks(rhos, [f"{rho:g}" for rho in rhos])
    axes.set_xlabel("rho: how far content predicts quality in training")
    axes.set_ylabel("SRCC within clusters, minus random's")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.text(0.09, 0.93, "Gain over a random photo's features", fontsize=14, fontweight="bold")
    figure.text(0.09, 0.89, "Mean of paired seeds, 95 % t interval. Dashed: the oracle, a ceiling.",
                color=QUIET)  # fmt: skip
    return figure


def draw_clusters(ends: tuple[Sequence[Path], Sequence[Path]], out: Path) -> None:
    """Draws a contact sheet: of each cluster the photos farthest from the other.

    Args:
        ends: files of cluster A and of B, farthest first.
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


def _difference(c: Comparison | None) -> str:
    if c is None or c.reference == c.variant:
        return "–"
    interval = f" ({c.ci_low:+.3f} to {c.ci_high:+.3f})" if c.pairs > 1 else ""
    return f"{c.mean_difference:+.3f}{interval}"
