"""Tests whether one method is better than another on the same images.

The correlations of two methods with the same labels on the same images are dependent, so tests for
independent correlations would be too strict or too loose. There are two kinds of tests:

* Tests for dependent correlations of normal variables: Meng, Rosenthal, Rubin (1992) and Steiger
  (1980). For SRCC they treat ranks as normal variables, which is an approximation.
* A paired bootstrap over images, with the same resamples for both methods. It makes no assumption
  about the distribution and works with any metric.

Sources: X.-L. Meng, R. Rosenthal, D. B. Rubin, "Comparing correlated correlation coefficients",
Psychological Bulletin 111 (1992) 172-175. J. H. Steiger, "Tests for comparing elements of a
correlation matrix", Psychological Bulletin 87 (1980) 245-251, equations 3, 10 and 14 with the mean
correlation. S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
Journal of Statistics 6 (1979) 65-70.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import bootstrap_replicates, percentile_interval
from qfm_iqm.metrics.correlation import METRICS, check_pair, plcc, srcc

TestName = Literal["meng", "steiger"]
_ROUNDING = 1e-12  # rounding error of a correlation: identical orders may give 1 - 2e-16


class ZTest(NamedTuple):
    """The result of a test.

    Attributes:
        z: statistic, standard normal if the correlations are equal; positive if the first is
            higher.
        p: two-sided p-value.
    """

    z: float
    p: float


def meng_test(r_1: float, r_2: float, r_12: float, n: int) -> ZTest:
    """Tests by Meng, Rosenthal and Rubin whether two methods correlate equally with the labels.

    Args:
        r_1: correlation of the first method's scores with the labels.
        r_2: correlation of the second method's scores with the labels.
        r_12: correlation of the two methods' scores.
        n: number of images.

    Raises:
        TableError: a correlation is not strictly between -1 and 1, no three variables can have
            these correlations, or there are fewer than 4 images.

    >>> round(meng_test(0.80, 0.75, 0.85, n=100).p, 2)
    0.13
    """
    _check(r_1, r_2, r_12, n)
    mean_square = (r_1**2 + r_2**2) / 2
    f = min(1.0, (1 - r_12) / (2 * (1 - mean_square)))
    h = (1 - f * mean_square) / (1 - mean_square)
    scale = np.sqrt((n - 3) / (2 * (1 - r_12) * h))
    return _test(float((np.arctanh(r_1) - np.arctanh(r_2)) * scale))


def steiger_test(r_1: float, r_2: float, r_12: float, n: int) -> ZTest:
    """Steiger's test; arguments and errors are those of `meng_test`."""
    _check(r_1, r_2, r_12, n)
    square = ((r_1 + r_2) / 2) ** 2
    covariance = r_12 * (1 - 2 * square) - square * (1 - 2 * square - r_12**2) / 2
    covariance /= (1 - square) ** 2
    scale = np.sqrt((n - 3) / (2 - 2 * covariance))
    return _test(float((np.arctanh(r_1) - np.arctanh(r_2)) * scale))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for multiple tests; controls the familywise error rate.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[i]))
        corrected[i] = highest
    return corrected


class Difference(NamedTuple):
    """Comparison of two methods on the same images.

    Attributes:
        first: name of the first method.
        second: name of the second method.
        metric: name of the metric.
        n: number of images.
        value_1: the metric of the first method.
        value_2: the metric of the second method.
        difference: first minus second.
        ci_low: lower end of the difference's 95 % interval, by the paired bootstrap.
        ci_high: upper end of the interval.
        p_bootstrap: two-sided p-value from the share of resamples on either side of zero; at least
            2 / (resamples + 1).
        p_test: two-sided p-value of the test for dependent correlations; None if undefined or for
            metrics other than SRCC and PLCC.
        p_bootstrap_holm: `p_bootstrap`, corrected for the number of comparisons.
        p_test_holm: `p_test`, corrected likewise.
    """

    first: str
    second: str
    metric: str
    n: int
    value_1: float
    value_2: float
    difference: float
    ci_low: float
    ci_high: float
    p_bootstrap: float
    p_test: float | None
    p_bootstrap_holm: float = 1.0
    p_test_holm: float | None = None


def paired_bootstrap(
    scores_1: npt.ArrayLike,
    scores_2: npt.ArrayLike,
    labels: npt.ArrayLike,
    metric: str = "srcc",
    *,
    n_boot: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The 95 % interval of the difference of a metric, and its two-sided p-value.

    Args:
        scores_1: (N,) scores of the first method.
        scores_2: (N,) scores of the second method.
        labels: (N,) labels of the same images.
        metric: a name in `METRICS`.
        n_boot: number of resamples, the same for both methods.
        seed: seed of the resamples.

    Returns:
        (low, high, p) for metric(first) - metric(second).

    Raises:
        TableError: the metric is undefined for either method.
    """
    first, second = (
        bootstrap_replicates(scores, labels, metrics=[metric], n_boot=n_boot, seed=seed)[metric]
        for scores in (scores_1, scores_2)
    )
    differences = first - second
    low, high = percentile_interval(differences)
    kept = differences[~np.isnan(differences)]
    tail = min(np.count_nonzero(kept <= 0), np.count_nonzero(kept >= 0))
    return low, high, float(min(1.0, 2 * (tail + 1) / (kept.size + 1)))


def compare_methods(
    scores: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    *,
    metric: str = "srcc",
    test: TestName = "meng",
    n_boot: int = 2000,
) -> list[Difference]:
    """Compares all pairs of methods on the same images, with Holm's correction.

    Args:
        scores: (N,) scores by method.
        labels: (N,) labels.
        metric: a name in `METRICS`; the test for dependent correlations needs srcc or plcc.
        test: the test for dependent correlations.
        n_boot: number of resamples of the paired bootstrap.

    Raises:
        TableError: there are fewer than two methods, or scores cannot be compared.
    """
    if len(scores) < 2:
        raise TableError(f"A comparison needs at least two methods, not {len(scores)}.")
    found = [
        _compare(names, scores, labels, metric, test, n_boot) for names in combinations(scores, 2)
    ]
    by_bootstrap = holm([one.p_bootstrap for one in found])
    by_test = iter(holm([one.p_test for one in found if one.p_test is not None]))
    return [
        one._replace(
            p_bootstrap_holm=p_bootstrap,
            p_test_holm=None if one.p_test is None else next(by_test),
        )
        for one, p_bootstrap in zip(found, by_bootstrap, strict=True)
    ]


def _compare(
    names: tuple[str, str],
    scores: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    metric: str,
    test: TestName,
    n_boot: int,
) -> Difference:
    (one, y), (two, _) = (check_pair(scores[name], labels) for name in names)
    value_1, value_2 = METRICS[metric](one, y), METRICS[metric](two, y)
    low, high, p_bootstrap = paired_bootstrap(one, two, y, metric, n_boot=n_boot)
    p_test = None
    if metric in ("srcc", "plcc"):
        between = (srcc if metric == "srcc" else plcc)(one, two)
        if between > 1 - _ROUNDING:  # the same order: nothing to test
            p_test = 1.0
        elif max(abs(value_1), abs(value_2)) < 1 - _ROUNDING:  # else no test is defined
            between = max(between, _ROUNDING - 1)  # for opposite orders
            tests = {"meng": meng_test, "steiger": steiger_test}
            p_test = tests[test](value_1, value_2, between, y.size).p
    return Difference(
        *names, metric, y.size, value_1, value_2, value_1 - value_2, low, high, p_bootstrap, p_test
    )


def _check(r_1: float, r_2: float, r_12: float, n: int) -> None:
    if any(not -1 < r < 1 for r in (r_1, r_2, r_12)):
        raise TableError(
            f"The correlations of a test must be between -1 and 1, not {r_1}, {r_2}, {r_12}."
        )
    if 1 - r_1**2 - r_2**2 - r_12**2 + 2 * r_1 * r_2 * r_12 <= 0:
        raise TableError(f"No three variables can have the correlations {r_1}, {r_2} and {r_12}.")
    if n < 4:
        raise TableError(f"A test of correlations needs at least 4 images, not {n}.")


def _test(z: float) -> ZTest:
    return ZTest(z, float(2 * special.ndtr(-abs(z))))
