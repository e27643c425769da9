"""Tests of scores on known degradations, from the Waterloo Exploration Database.

L-test and D-test: Ma et al., "Waterloo Exploration Database", IEEE TIP 2017.

Arrays: P photos, L levels of one degradation, ascending.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats


def level_order(scores_PL: npt.ArrayLike) -> float:
    """Share of pairs of adjacent levels whose stronger one has the lower score; ties are wrong.

    Args:
        scores_PL: (P, L), higher is better.

    >>> level_order([[90, 80, 70], [90, 60, 65]])
    0.75
    """
    return float((np.diff(np.asarray(scores_PL, dtype=np.float64), axis=1) < 0).mean())


def detection(clean_N: npt.ArrayLike, degraded_M: npt.ArrayLike) -> tuple[float, float]:
    """How well scores separate clean from degraded images.

    Args:
        clean_N: scores of clean images.
        degraded_M: scores of degraded images.

    Returns:
        Area under the ROC curve (ties count half), and balanced accuracy at the best threshold.

    >>> detection([70, 80, 90], [60, 75])  # doctest: +ELLIPSIS
    (0.833..., 0.833...)
    """
    clean, degraded = (np.asarray(x, dtype=np.float64).ravel() for x in (clean_N, degraded_M))
    ranks = stats.rankdata(np.concatenate([clean, degraded]))[: clean.size]
    area = (ranks.sum() - clean.size * (clean.size + 1) / 2) / (clean.size * degraded.size)
    thresholds = np.unique(np.concatenate([clean, degraded]))
    above = 1 - np.searchsorted(np.sort(clean), thresholds, side="left") / clean.size
    below = np.searchsorted(np.sort(degraded), thresholds, side="left") / degraded.size
    return float(area), float(((above + below) / 2).max())


def curve_of(scores_PL: Sequence[Sequence[float]]) -> list[float]:
    """Mean score of each level (L,).

    >>> curve_of([[90, 80, 70], [80, 60, 50]])
    [85.0, 70.0, 60.0]
    """
    return [float(mean) for mean in np.asarray(scores_PL, dtype=np.float64).mean(0)]
