"""Measures and verdict of the confounding experiment (docs/confounding.md)."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.metrics.correlation import srcc

Outcome = Literal["supported", "refuted", "the mechanism does nothing", "undecided"]
Integers = npt.NDArray[np.int64]


class Gain(NamedTuple):
    """A mean paired difference with its 95 % interval."""

    mean: float
    low: float
    high: float


def srcc_within(scores: Doubles, labels: Doubles, clusters: Integers) -> tuple[float, float]:
    """SRCC within cluster 0 and within cluster 1."""
    first, second = (srcc(scores[clusters == c], labels[clusters == c]) for c in (0, 1))
    return first, second


def score_gap(
    scores: Doubles, labels: Doubles, clusters: Integers, cells: Integers, upper: int
) -> float:
    """How much higher the upper cluster scores than the other cluster within the same cells.

    In every cell with images of both clusters, the difference of their mean errors is taken; the
    result is the mean over these cells, or NaN if there are none.

    Args:
        scores: predictions.
        labels: labels in the same units.
        clusters: cluster of each image, 0 or 1.
        cells: cell of each image; scores are compared within cells.
        upper: the cluster whose photos were mostly good in training.
    """
    errors = scores - labels
    gaps = []
    for cell in np.unique(cells):
        own, other = ((cells == cell) & (clusters == c) for c in (upper, 1 - upper))
        if own.any() and other.any():
            gaps.append(errors[own].mean() - errors[other].mean())
    return float(np.mean(gaps)) if gaps else float("nan")


def verdict(
    qfm: Gain, oracle: Gain, *, over_like_quality: float, selectivity: tuple[float, float]
) -> Outcome:
    """The preregistered verdict.

    Args:
        qfm: gain of `qfm` over `random` in SRCC within clusters.
        oracle: gain of `oracle` over `random`.
        over_like_quality: mean gain of `qfm` over `like_quality`.
        selectivity: mean log ratios of `qfm`'s selectivity to `none`'s and to `random`'s.
    """
    if qfm.mean >= 0.02 and qfm.low > 0 and over_like_quality > 0 and min(selectivity) > 0:
        return "supported"
    if qfm.high < 0.01 and oracle.mean >= 0.02:
        return "refuted"
    if not oracle.low > 0:
        return "the mechanism does nothing"
    return "undecided"


def highest_between(gains: Mapping[float, float]) -> bool:
    """Whether the largest mean gain is at neither the smallest nor the largest rho."""
    best = max(gains, key=lambda rho: gains[rho])
    return min(gains) < best < max(gains)
