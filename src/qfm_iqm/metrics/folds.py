"""Summary of an experiment over folds: median, mean and standard deviation of each figure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from qfm_iqm.metrics.published import Published
from qfm_iqm.text_tables import markdown_row


class FoldFigure(NamedTuple):
    """One figure of one fold.

    Attributes:
        setting: what was varied besides the fold, such as the share of labels.
        protocol: "validation-selected" or "test-selected".
        fold: number of the fold.
        subset: "whole", a group, or "subset_mean".
        metric: a name in `correlation.METRICS`.
        value: value of the metric.
        images: number of images it was measured on.
        epoch: the selected epoch, counted from 1.
        split_sha256: hash of the fold's split.
    """

    setting: str
    protocol: str
    fold: int
    subset: str
    metric: str
    value: float
    images: int
    epoch: int
    split_sha256: str


class Summary(NamedTuple):
    """One figure over all folds; setting, protocol, subset and metric are those of `FoldFigure`.

    Attributes:
        folds: number of folds.
        median: median over folds.
        mean: mean over folds.
        std: sample standard deviation over folds; 0 for one fold.
        lowest: lowest value over folds.
        highest: highest value over folds.
        split_sha256: hashes of the folds' splits in order, separated by spaces.
    """

    setting: str
    protocol: str
    subset: str
    metric: str
    folds: int
    median: float
    mean: float
    std: float
    lowest: float
    highest: float
    split_sha256: str


def summarize(figures: Iterable[FoldFigure]) -> list[Summary]:
    """Summarizes each setting, protocol, subset and metric over folds, in order of appearance."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    splits: dict[tuple[str, str, str, str], list[str]] = {}
    for one in figures:
        key = (one.setting, one.protocol, one.subset, one.metric)
        values.setdefault(key, []).append(one.value)
        splits.setdefault(key, []).append(one.split_sha256)
    return [
        Summary(
            *key,
            folds=len(found),
            median=float(np.median(found)),
            mean=float(np.mean(found)),
            std=float(np.std(found, ddof=1)) if len(found) > 1 else 0.0,
            lowest=min(found),
            highest=max(found),
            split_sha256=" ".join(splits[key]),
        )
        for key, found in values.items()
    ]


def summary_table(rows: Sequence[Summary], beside: Sequence[Published] = ()) -> str:
    """A Markdown table with a row per setting, protocol and subset, then the published figures.

    Figures are medians over folds, with the sample standard deviation in parentheses. The first
    digits of the splits' SHA-256 follow below.

    Args:
        rows: summaries of one experiment.
        beside: published figures on the same dataset.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines = [
        markdown_row(["setting", "protocol", "subset", "folds", *metrics]),
        "|---|---|---|--:|" + "--:|" * len(metrics),
    ]
    keys = dict.fromkeys((row.setting, row.protocol, row.subset) for row in rows)
    for key in keys:
        found = {r.metric: r for r in rows if (r.setting, r.protocol, r.subset) == key}
        folds = max(row.folds for row in found.values())
        cells = [_cell(found.get(metric)) for metric in metrics]
        name = f"{key[1]} (optimistic)" if key[1] == "test-selected" else key[1]
        lines.append(markdown_row([key[0], name, key[2], str(folds), *cells]))
    for one in beside:
        told = {"srcc": one.srcc, "plcc": one.plcc}
        values = [told.get(metric) for metric in metrics]
        cells = ["" if v is None else f"{v:.3f}{'?' * one.unconfirmed}" for v in values]
        lines.append(markdown_row([one.method, "published", "whole", str(one.splits), *cells]))
    digests = dict.fromkeys(digest for row in rows for digest in row.split_sha256.split())
    if digests:
        lines += ["", f"Splits (SHA-256): {', '.join(digest[:12] for digest in digests)}."]
    if any(one.unconfirmed for one in beside):
        lines += ["", "? not checked against the paper."]
    return "\n".join(lines) + "\n"


def _cell(row: Summary | None) -> str:
    if row is None:
        return ""
    return f"{row.median:.4f} ({row.std:.4f})" if row.folds > 1 else f"{row.median:.4f}"
