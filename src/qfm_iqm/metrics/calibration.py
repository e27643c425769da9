"""From scores to somebody's own ratings, by a monotone curve from a few dozen of these.

Two curves: isotonic regression, which assumes nothing but the direction, joined by straight lines
through its steps' middles; and the four-parameter logistic of VQEG (`correlation.fit_logistic`).
What a curve is worth is told by cross-validation: each rating is predicted by a curve fitted
without it, and the error is compared with that of the scores as they were, photo by photo.

Arrays: N rated images; s scores, y ratings.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import percentile_interval, resamples
from qfm_iqm.metrics.correlation import check_pair, fit_logistic, srcc


def conformal_half_width(errors: npt.ArrayLike, level: float) -> float:
    """The half-width that holds the label of a further image with a probability of `level`.

    Args:
        errors: label minus score (N,), of images that neither trained nor selected the model.
        level: above 0 and below 1.

    Raises:
        TableError: too few images for that level.

    >>> conformal_half_width([-3, 1, 2, -1, 4, 0, 1, -2, 5], level=0.8)
    4.0
    """
    sizes = np.sort(np.abs(np.asarray(errors, dtype=np.float64)))
    place = math.ceil((sizes.size + 1) * level - 1e-9)
    if place > sizes.size:
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise TableError(
            f"An interval for {level:.0%} of images needs at least {needed} rated images, "
            f"and there are {sizes.size}."
        )
    return float(sizes[place - 1])


def coverage(labels: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[float, float]:
    """Share of labels (N,) that intervals [low, high] hold, and the intervals' mean width.

    >>> coverage([3, 5], low=[2, 6], high=[4, 9])
    (0.5, 2.5)
    """
    y, bottom, top = (np.asarray(column, dtype=np.float64) for column in (labels, low, high))
    return float(((bottom <= y) & (y <= top)).mean()), float((top - bottom).mean())


Kind = Literal["isotonic", "logistic"]
Knots = tuple[Doubles, Doubles]

LEAST = 30  # ratings: with fewer a curve follows single photos
_FOLDS = 10
_SURE = 0.05  # p of Spearman's test: scores that say nothing of the ratings cannot be bent to it
_LOGISTIC_KNOTS = 65


@dataclass(frozen=True)
class Figure:
    """A root mean squared error in the ratings' units, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A curve, and what it is worth.

    Attributes:
        kind: "isotonic" or "logistic".
        x: knots in score units, ascending; straight lines between, flat beyond.
        y: ratings there, ascending.
        ratings: how many it was fitted on.
        srcc: Spearman's correlation of scores and ratings.
        before: error of the scores as they were.
        after: error of curves fitted without the rating they predict.
        gain: `before` minus `after`, on the same resamples.
        predicted: these predictions (N,), in the ratings' order.
    """

    kind: Kind
    x: Doubles
    y: Doubles
    ratings: int
    srcc: float
    before: Figure
    after: Figure
    gain: Figure
    predicted: Doubles


def calibrate(
    scores: npt.ArrayLike,
    ratings: npt.ArrayLike,
    as_it_was: npt.ArrayLike,
    *,
    kind: Kind = "isotonic",
    n_boot: int = 2000,
    seed: int = 0,
) -> Calibration:
    """Fits a rising curve from scores to ratings, and measures what it is worth.

    Args:
        scores: (N,), in any units, higher is better.
        ratings: (N,), higher is better.
        as_it_was: (N,) the scores in the ratings' units without a curve, for the error before.
        kind: of the curve.
        n_boot: bootstrap resamples behind each interval.
        seed: of folds and resamples.

    Raises:
        TableError: fewer than 30 ratings, all equal, reversed, or unrelated to the scores.
    """
    s, y = _checked(scores, ratings)
    before = np.asarray(as_it_was, dtype=np.float64)
    fit = _CURVES[kind]
    predicted = np.empty_like(y)
    folds = np.array_split(np.random.default_rng(seed).permutation(s.size), _FOLDS)
    for fold in folds:
        others = np.setdiff1d(np.arange(s.size), fold)
        predicted[fold] = np.interp(s[fold], *fit(s[others], y[others]))
    errors = np.square(before - y), np.square(predicted - y)
    drawn = [
        [np.sqrt(error[rows].mean(axis=1)) for error in errors]
        for rows in resamples(s.size, n_boot, seed)
    ]
    before_B, after_B = (np.concatenate(column) for column in zip(*drawn, strict=True))
    values = [float(np.sqrt(error.mean())) for error in errors]
    x, curve = fit(s, y)
    return Calibration(
        kind=kind,
        x=x,
        y=curve,
        ratings=s.size,
        srcc=srcc(s, y),
        before=Figure(values[0], *percentile_interval(before_B)),
        after=Figure(values[1], *percentile_interval(after_B)),
        gain=Figure(values[0] - values[1], *percentile_interval(before_B - after_B)),
        predicted=predicted,
    )


def fit_isotonic(scores: Doubles, ratings: Doubles) -> Knots:
    """Isotonic regression, joined by straight lines through the middle of each step.

    Steps would give many scores one value; through their middles the curve rises strictly.
    """
    order = np.argsort(scores, kind="stable")
    s, y = scores[order], ratings[order]
    x, first, counts = np.unique(s, return_index=True, return_counts=True)
    means = np.add.reduceat(y, first) / counts
    level = optimize.isotonic_regression(means, weights=counts).x
    step = np.concatenate([[0], np.cumsum(np.diff(level) > 0)])
    weight = np.bincount(step, counts)
    return np.bincount(step, x * counts) / weight, np.bincount(step, level * counts) / weight


def fit_logistic_knots(scores: Doubles, ratings: Doubles) -> Knots:
    """The logistic curve through knots over the scores and as far again to both sides.

    Raises:
        TableError: the best curve falls, or there is none.
    """
    curve = fit_logistic(scores, ratings)
    if curve.b1 <= curve.b2:
        raise TableError(
            "The logistic curve nearest to these ratings falls: take --curve isotonic."
        )
    low, high = float(scores.min()), float(scores.max())
    x = np.linspace(low - (high - low), high + (high - low), _LOGISTIC_KNOTS)
    return x, curve(x)


_CURVES: dict[Kind, Callable[[Doubles, Doubles], Knots]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic_knots,
}


def _checked(scores: npt.ArrayLike, ratings: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    """Scores and ratings from which a curve can be learned; else says why not."""
    count = np.size(ratings)
    if count < LEAST:
        raise TableError(
            f"A calibration needs at least {LEAST} ratings, and there are {count}: rate more."
        )
    s, y = check_pair(scores, ratings)
    related = stats.spearmanr(s, y)
    if related.statistic < 0 and related.pvalue < _SURE:
        raise TableError(
            f"These ratings fall as the scores rise (SRCC {related.statistic:.2f}): give "
            "--lower-is-better if low ratings mean good photos, and leave it out if they do not."
        )
    if related.pvalue >= _SURE:
        raise TableError(
            f"These {count} ratings are not related to the scores (SRCC {related.statistic:.2f}, "
            f"p {related.pvalue:.2f}): no curve can make one out of the other."
        )
    return s, y
