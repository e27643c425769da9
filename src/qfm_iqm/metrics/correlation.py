"""Agreement of scores with labels: SRCC, PLCC, KRCC, RMSE, and VQEG's logistic mapping.

All metrics take two 1-D arrays, scores and labels of the same images. They refuse unequal lengths,
fewer than 3 images, NaN or infinity, and constant scores or labels. RMSE refuses constant scores
too, so that a collapsed network gets no figure.

Signs are kept: good scores correlate negatively with labels where low is good. The logistic mapping
may decrease or increase, so the metrics after it do not depend on direction and unit.

Shape legend: `x_BN` holds B samples of N images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize, special, stats

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import TableError

_PAIRS = 1_000_000  # image pairs in memory at a time
_FLAT = 1e-12  # tolerance of the mean squared error, in variances of the labels


def check_pair(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    """Scores and labels (N,) as float64, checked for all metrics in this module.

    Raises:
        TableError: they are not two 1-D arrays of numbers of equal length N >= 3, contain NaN or
            infinity (counted), or all scores or all labels are equal.
    """
    pair = _numbers("scores", scores), _numbers("labels", labels)
    if pair[0].size != pair[1].size:
        raise TableError(
            f"Each image needs a score and a label, but {pair[0].size} scores "
            f"and {pair[1].size} labels were given."
        )
    if pair[0].size < 3:
        raise TableError(f"A correlation needs at least 3 images, not {pair[0].size}.")
    for what, values in zip(("scores", "labels"), pair, strict=True):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise TableError(
                f"{bad} of {values.size} {what} are NaN or infinite; "
                "find out why, or leave these images out of both."
            )
    for what, values in zip(("scores", "labels"), pair, strict=True):
        if values.min() == values.max():
            raise TableError(
                f"All {values.size} {what} are equal ({values[0]:g}): no correlation is defined."
            )
    return pair


def srcc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Spearman's rank correlation, -1 to 1: PLCC of the ranks, with mean ranks for ties.

    >>> round(srcc([10, 20, 40, 30], [1, 2, 3, 4]), 3)
    0.8
    """
    return float(srcc_rows(*check_pair(scores, labels)))


def plcc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Pearson's linear correlation of the scores without logistic mapping, -1 to 1.

    >>> round(plcc([10, 20, 40, 30], [1, 2, 3, 4]), 3)
    0.8
    """
    return float(plcc_rows(*check_pair(scores, labels)))


def krcc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Kendall's rank correlation tau-b (corrected for ties), -1 to 1.

    >>> round(krcc([10, 20, 40, 30], [1, 2, 3, 4]), 3)
    0.667
    """
    return float(stats.kendalltau(*check_pair(scores, labels)).statistic)


def rmse(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Root mean squared error in label units; only meaningful for scores in label units.

    >>> rmse([10, 20, 30], [13, 20, 27])  # doctest: +ELLIPSIS
    2.449...
    """
    return float(rmse_rows(*check_pair(scores, labels)))


def plcc_logistic(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """PLCC between labels and scores mapped by `fit_logistic`, 0 to 1."""
    return plcc(fit_logistic(scores, labels)(scores), labels)


def rmse_logistic(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """RMSE in label units between labels and scores mapped by `fit_logistic`."""
    return rmse(fit_logistic(scores, labels)(scores), labels)


METRICS: Mapping[str, Callable[[npt.ArrayLike, npt.ArrayLike], float]] = MappingProxyType(
    {
        "srcc": srcc,
        "plcc": plcc,
        "plcc_logistic": plcc_logistic,
        "krcc": krcc,
        "rmse": rmse,
        "rmse_logistic": rmse_logistic,
    }
)


@dataclass(frozen=True)
class Logistic4:
    """Maps scores to label units: q' = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2.

    Source: Sheikh, Sabir, Bovik, "A statistical evaluation of recent full reference image quality
    assessment algorithms", IEEE TIP 2006, and VQEG's final report of 2000.

    Attributes:
        b1: limit of the label for high scores.
        b2: limit of the label for low scores; above b1 if the curve decreases.
        b3: score at the middle of the curve.
        b4: width of the curve in score units, positive.
    """

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, scores: npt.ArrayLike) -> Doubles:
        """Maps scores of any shape to label units."""
        s = np.asarray(scores, dtype=np.float64)
        rise = special.expit((s - self.b3) / abs(self.b4))
        return np.asarray((self.b1 - self.b2) * rise + self.b2, dtype=np.float64)


def fit_logistic(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Logistic4:
    """The least-squares logistic curve from scores to labels.

    For a given middle b3 and width b4 the best b1 and b2 are an exact linear regression, so only b3
    and b4 are searched: first on a coarse grid, so that no initial guess is needed, then by
    Nelder-Mead from the grid's six deepest local minima, because there are several if the relation
    is weak. Scores are internally scaled to an interquartile range of 1, so their unit does not
    matter. b4 stays between 1/1000 of that range and 100 times the scores' standard deviation (at
    least 100 ranges), where the curve is a step or a straight line; b3 stays within 10 ranges of
    the scores.

    Raises:
        TableError: as for all metrics here; there are fewer than 5 images, because 4 parameters fit
            4 points exactly; the scores explain nothing of the labels; or the fit does not
            converge. There is no fallback to another mapping.
    """
    s, y = check_pair(scores, labels)
    if s.size < 5:
        raise TableError(f"A logistic curve of 4 parameters needs at least 5 images, not {s.size}.")
    low, middle, high = np.quantile(s, (0.25, 0.5, 0.75))
    spread = float(high - low) or float(np.ptp(s))
    z = (s - middle) / spread
    widest = max(1.0, float(z.std()))
    mean, std = float(y.mean()), float(y.std())
    target = (y - mean) / std

    def regress(middle_z: float, log_width: float) -> tuple[float, float, Doubles]:
        """Height and mean rise of the best curve with this middle and width, and the curve."""
        rise = special.expit((z - middle_z) / np.exp(log_width))
        center = float(rise.mean())
        rise -= center
        power = float(rise @ rise)
        # A curve that is almost constant over the scores would need a huge height: treated as flat.
        height = float(rise @ target) / power if power > 1e-12 * z.size else 0.0
        return height, center, height * rise

    def error(shape: Doubles) -> float:
        return float(np.square(regress(*shape)[2] - target).mean())

    beyond = np.array([1.0, 4.0])
    inside = np.quantile(z, np.linspace(0, 1, 21))
    middles = np.unique(np.concatenate([z.min() - beyond, inside, z.max() + beyond]))
    widths = np.log(np.geomspace(0.003, 50 * widest, 11))
    errors = np.array([[error(np.array([m, w])) for w in widths] for m in middles])
    valleys = np.argwhere(errors == ndimage.minimum_filter(errors, size=3)).tolist()
    deepest = sorted(valleys, key=lambda cell: float(errors[*cell]))[:6]
    # Offsets of the initial simplex; scipy's default one is too small around 0.
    corners = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.5]])
    simplices = [np.array([middles[m], widths[w]]) + corners for m, w in deepest]
    searches = [
        optimize.minimize(
            error,
            simplex[0],
            method="Nelder-Mead",
            bounds=[(z.min() - 10, z.max() + 10), (np.log(1e-3), np.log(1e2 * widest))],
            options={"initial_simplex": simplex, "xatol": 1e-8, "fatol": _FLAT, "maxiter": 2000},
        )
        for simplex in simplices
    ]
    found = min(searches, key=lambda search: float(search.fun))
    # In a flat valley the parameters may keep moving although the curve has converged.
    if not found.success and np.ptp(found.final_simplex[1]) > _FLAT:
        raise TableError(
            f"The logistic fit over {s.size} images did not converge within {found.nit} steps; "
            "report the metrics without it."
        )
    height, center, curve = regress(*found.x)
    if curve.std() < 1e-9:
        raise TableError(
            f"The scores explain nothing of the labels of these {s.size} images: the best logistic "
            "curve is flat, and no correlation is defined after it."
        )
    b2 = mean - std * height * center
    return Logistic4(
        b1=b2 + std * height,
        b2=b2,
        b3=float(middle + spread * found.x[0]),
        b4=float(spread * np.exp(found.x[1])),
    )


# The same metrics over the last axis, without checks, for many samples at once.


def srcc_rows(scores_BN: Doubles, labels_BN: Doubles) -> Doubles:
    """SRCC of each row (B,); NaN where a row's scores or labels are all equal."""
    return plcc_rows(stats.rankdata(scores_BN, axis=-1), stats.rankdata(labels_BN, axis=-1))


def plcc_rows(scores_BN: Doubles, labels_BN: Doubles) -> Doubles:
    """PLCC of each row (B,); NaN where a row's scores or labels are all equal."""
    product = (_unit_rows(scores_BN) * _unit_rows(labels_BN)).sum(axis=-1)
    return np.asarray(np.clip(product, -1, 1), dtype=np.float64)


def krcc_resamples(
    scores_N: Doubles, labels_N: Doubles, index_BN: npt.NDArray[np.int64]
) -> Doubles:
    """KRCC of each resample (B,) of the same images; NaN if its scores or labels are all equal.

    A pair of images is weighted by the product of its counts, so all resamples share one matrix P:

        tau_b = c' P c / sqrt((N^2 - sum_g c_g^2) (N^2 - sum_h c_h^2))

    where c is the count of each image, P is 1 for two images in the same order by score and label
    and -1 in opposite order (0 for ties), and c_g and c_h are the counts of images with equal score
    and with equal label.
    """
    n = scores_N.size
    # Counts are integers, for which float32 is exact up to 2^24.
    counts_BN = np.stack([np.bincount(row, minlength=n) for row in index_BN]).astype(np.float32)
    agreement_B = np.zeros(len(counts_BN))
    untied_B = np.ones(len(counts_BN))
    ranks = []
    for values_N in (scores_N, labels_N):
        _, rank_N, sizes_G = np.unique(values_N, return_inverse=True, return_counts=True)
        starts_G = np.cumsum(sizes_G) - sizes_G
        tied_BG = np.add.reduceat(counts_BN[:, np.argsort(rank_N)], starts_G, axis=1)
        untied_B *= n * n - np.square(tied_BG, dtype=np.float64).sum(axis=1)
        ranks.append(rank_N.astype(np.float32))
    step = max(1, _PAIRS // n)
    for rows in (slice(start, start + step) for start in range(0, n, step)):
        alike_RN = np.sign(ranks[0][rows, None] - ranks[0])
        alike_RN *= np.sign(ranks[1][rows, None] - ranks[1])
        agreement_B += ((counts_BN @ alike_RN.T) * counts_BN[:, rows]).sum(1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.clip(agreement_B / np.sqrt(untied_B), -1, 1), dtype=np.float64)


def rmse_rows(scores_BN: Doubles, labels_BN: Doubles) -> Doubles:
    """RMSE of each row (B,)."""
    return np.asarray(np.sqrt(np.square(scores_BN - labels_BN).mean(axis=-1)), dtype=np.float64)


def _unit_rows(x_BN: Doubles) -> Doubles:
    """Each row centered and scaled to norm 1; NaN where it is constant."""
    # Rows are first scaled to 0 .. 1, so that tiny units or a large offset lose no precision.
    low = x_BN.min(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x_BN = (x_BN - low) / (x_BN.max(axis=-1, keepdims=True) - low)
    x_BN = x_BN - x_BN.mean(axis=-1, keepdims=True)
    return np.asarray(x_BN / np.linalg.norm(x_BN, axis=-1, keepdims=True), dtype=np.float64)


def _numbers(what: str, values: npt.ArrayLike) -> Doubles:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TableError(f"The {what} must be numbers, but they are not ({error}).") from error
    if array.ndim != 1:
        raise TableError(f"The {what} must be a 1-D array, but their shape is {array.shape}.")
    return array
