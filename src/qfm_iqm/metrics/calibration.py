"""Calibration of scores to a user's own ratings by a monotone curve.

A few dozen ratings suffice. There are two curves: isotonic regression, which assumes only the
direction, with linear interpolation between the middles of its steps; and VQEG's four-parameter
logistic (`correlation.fit_logistic`). Cross-validation measures the curve: each rating is predicted
by a curve fitted without it, and the error is compared with that of the uncalibrated scores.

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
    """The interval half-width that covers the label of a new image with probability `level`.

    Args:
        errors: label minus score (N,), on images used neither to train nor to select the model.
        level: coverage, above 0 and below 1.

    Raises:
        TableError: there are too few images for this level.

    >>> conformal_half_width([-3, 1, 2, -1, 4, 0, 1, -2, 5], level=0.8)
    4.0
    """
    sizes = np.sort(np.abs(np.asarray(errors, dtype=np.float64)))
    place = math.ceil((sizes.size + 1) * level - 1e-9)
    if place > sizes.size:
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise TableError(
            f"An interval for {level:.0%} of images needs at least {needed} rated images, "
            f"but there are {sizes.size}."
        )
    return float(sizes[place - 1])


def conformal_half_widths(
    scores: npt.ArrayLike, errors: npt.ArrayLike, level: float
) -> tuple[Doubles, Doubles]:
    """Half-widths that depend on the score and cover the labels of new images with `level`.

    Errors differ: most models are surer of a very good photo than of a middling one. So each error
    is divided by the mean error of images with similar scores, and the conformal half-width of
    these ratios is multiplied by that mean again (locally weighted conformal prediction; Lei et
    al., 2018, section 5.2). Where half-widths would change faster than the score they are widened,
    so that both ends of the interval rise with the score.

    Args:
        scores: scores (N,).
        errors: label minus score (N,), as for `conformal_half_width`.
        level: coverage, above 0 and below 1.

    Returns:
        Scores (K,), ascending, and the half-width at each: linear between them, constant beyond. A
        single one if there are fewer than `FEW` images.

    Raises:
        TableError: there are too few images for this level.
    """
    scores_N, sizes_N = np.asarray(scores, np.float64), np.abs(np.asarray(errors, np.float64))
    count = sizes_N.size
    if count < FEW:
        return np.median(scores_N, keepdims=True), np.array([conformal_half_width(errors, level)])
    ranks_N = stats.rankdata(scores_N) / count
    knots_K = np.unique(np.quantile(scores_N, np.linspace(0, 1, _KNOTS)))
    near_KN = _nearness(np.interp(knots_K, np.sort(scores_N), np.sort(ranks_N)), ranks_N)
    near_NN = _nearness(ranks_N, ranks_N)
    np.fill_diagonal(near_NN, 0)  # an image says nothing about its own error
    least = 0.1 * sizes_N.mean() + np.finfo(np.float64).tiny
    own_N = np.maximum(near_NN @ sizes_N / near_NN.sum(1), least)
    ratio = conformal_half_width(sizes_N / own_N, level)
    widths_K = ratio * np.maximum(near_KN @ sizes_N / near_KN.sum(1), least)
    return knots_K, (widths_K - np.abs(knots_K - knots_K[:, None])).max(1)


def _nearness(ranks_M: Doubles, ranks_N: Doubles) -> Doubles:
    """Weights (M, N) of images by the distance of their ranks, shares of all images."""
    return np.asarray(np.exp(-(((ranks_M[:, None] - ranks_N) / _BANDWIDTH) ** 2) / 2))


def coverage(labels: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[float, float]:
    """Share of labels (N,) inside the intervals [low, high], and the intervals' mean width.

    >>> coverage([3, 5], low=[2, 6], high=[4, 9])
    (0.5, 2.5)
    """
    y, bottom, top = (np.asarray(column, dtype=np.float64) for column in (labels, low, high))
    return float(((bottom <= y) & (y <= top)).mean()), float((top - bottom).mean())


Kind = Literal["isotonic", "logistic"]
Knots = tuple[Doubles, Doubles]

LEAST = 30  # ratings: with fewer, a curve fits single photos
_FOLDS = 10
_RESAMPLES = 2000
_SEED = 0  # of the folds and the resamples
_SURE = 0.05  # p of Spearman's test, above which scores count as unrelated to the ratings
_LOGISTIC_KNOTS = 65
FEW = 100  # images: with fewer, all intervals have the same half-width
_KNOTS = 9  # scores with a half-width of their own
_BANDWIDTH = 0.1  # of the ranks whose errors are averaged, as a share of all images


@dataclass(frozen=True)
class Figure:
    """A root mean squared error in the ratings' units, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """A fitted curve and its cross-validated errors.

    Attributes:
        kind: "isotonic" or "logistic".
        x: knots in score units, ascending; the curve is linear between them and constant beyond.
        y: ratings at the knots, ascending.
        ratings: number of ratings it was fitted on.
        srcc: Spearman correlation of scores and ratings.
        before: error of the uncalibrated scores.
        after: error of curves fitted without the rating they predict.
        gain: `before` minus `after`, on the same resamples.
        predicted: the predictions (N,) behind `after`, in the order of the ratings.
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
) -> Calibration:
    """Fits an increasing curve from scores to ratings, and cross-validates it.

    Args:
        scores: (N,) scores in any units; higher is better.
        ratings: (N,) ratings; higher is better.
        as_it_was: (N,) uncalibrated scores in the ratings' units, for the error before.
        kind: kind of curve.

    Raises:
        TableError: there are fewer than 30 ratings, or they are all equal, reversed, or unrelated
            to the scores.
    """
    s, y = _checked(scores, ratings)
    before = np.asarray(as_it_was, dtype=np.float64)
    fit = _CURVES[kind]
    predicted = np.empty_like(y)
    folds = np.array_split(np.random.default_rng(_SEED).permutation(s.size), _FOLDS)
    for fold in folds:
        others = np.setdiff1d(np.arange(s.size), fold)
        predicted[fold] = np.interp(s[fold], *fit(s[others], y[others]))
    errors = np.square(before - y), np.square(predicted - y)
    drawn = [
        [np.sqrt(error[rows].mean(axis=1)) for error in errors]
        for rows in resamples(s.size, _RESAMPLES, _SEED)
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
    """Isotonic regression, interpolated linearly between the middles of its steps.

    Steps would map many scores to one value; the interpolated curve rises strictly.
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
    """Knots of the logistic curve over the scores' range, extended by its length on both sides.

    Raises:
        TableError: the best curve decreases, or there is none.
    """
    curve = fit_logistic(scores, ratings)
    if curve.b1 <= curve.b2:
        raise TableError(
            "The logistic curve that fits these ratings best falls: take --curve isotonic."
        )
    low, high = float(scores.min()), float(scores.max())
    x = np.linspace(low - (high - low), high + (high - low), _LOGISTIC_KNOTS)
    return x, curve(x)


_CURVES: dict[Kind, Callable[[Doubles, Doubles], Knots]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic_knots,
}


def _checked(scores: npt.ArrayLike, ratings: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    """Scores and ratings as arrays; TableError if no curve can be fitted to them."""
    count = np.size(ratings)
    if count < LEAST:
        raise TableError(
            f"A calibration needs at least {LEAST} ratings, but there are {count}: rate more."
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
            f"p {related.pvalue:.2f}): no curve can map one to the other."
        )
    return s, y
