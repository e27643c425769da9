"""Win rate: how often the second of two scores of an image is better, and by how much.

The win rate counts only images whose scores differ, as in a sign test; its interval is Wilson's.
Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import resamples
from qfm_iqm.metrics.correlation import srcc

RESAMPLES = 1000
AT_MOST = 20_000  # most images for a bootstrap of the mean; above, its interval is normal


@dataclass(frozen=True)
class WinRate:
    """Comparison of the second of two scores with the first, over the same images.

    Attributes:
        n: number of images.
        wins: images whose second score is better.
        losses: images whose second score is worse.
        win_rate: share of wins among images whose scores differ; None if none differ.
        win_low: lower end of the win rate's 95 % interval.
        win_high: upper end of that interval.
        mean: mean of second minus first.
        mean_low: lower end of the mean's 95 % interval.
        mean_high: upper end of that interval.
        srcc: rank correlation of the two scores; None if undefined.
    """

    n: int
    wins: int
    losses: int
    win_rate: float | None
    win_low: float | None
    win_high: float | None
    mean: float
    mean_low: float
    mean_high: float
    srcc: float | None


def win_rate(
    first: npt.ArrayLike, second: npt.ArrayLike, *, higher_is_better: bool = True
) -> WinRate:
    """Compares two scores of the same N images.

    Args:
        first: (N,) scores.
        second: (N,) scores of the same images.
        higher_is_better: direction of both scores.

    Raises:
        TableError: there are fewer than two images, or scores are not finite numbers.

    >>> win_rate([50, 60, 70], [55, 66, 69]).wins
    2
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 2 or not np.isfinite([a, b]).all():
        raise TableError(
            "A comparison needs finite scores of the same 2 or more images, but "
            f"{a.size} and {b.size} were given, or some are not finite."
        )
    change = b - a
    better = change if higher_is_better else -change
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    rate = low = high = None
    if wins + losses:
        rate = wins / (wins + losses)
        interval = binomtest(wins, wins + losses).proportion_ci(method="wilson")
        low, high = float(interval.low), float(interval.high)
    mean = float(change.mean())
    if change.size <= AT_MOST:
        means = np.concatenate(
            [change[index_BN].mean(1) for index_BN in resamples(change.size, RESAMPLES, 0)]
        )
        ends = np.quantile(means, (0.025, 0.975))
    else:
        ends = mean + np.array([-1.96, 1.96]) * change.std(ddof=1) / np.sqrt(change.size)
    try:
        correlation = srcc(a, b)
    except TableError:  # all scores of one side are equal
        correlation = None
    return WinRate(
        change.size,
        wins,
        losses,
        rate,
        low,
        high,
        mean,
        float(ends[0]),
        float(ends[1]),
        correlation,
    )
