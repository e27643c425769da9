"""Confidence intervals of correlations: percentile bootstrap over images.

A resample draws N images with replacement; all metrics share the same resamples. The logistic curve
is fitted once on all images and the mapped scores are resampled, so the intervals of the logistic
metrics assume a fixed curve. A resample in which a metric is undefined, because all its scores or
labels are equal, is dropped for that metric.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

Shape legend: B resamples, N images.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.correlation import (
    METRICS,
    Logistic4,
    check_pair,
    fit_logistic,
    krcc_resamples,
    plcc_rows,
    rmse_rows,
    srcc_rows,
)

# Resampled values in memory at a time: 8 bytes each, in several arrays.
CHUNK = 2_000_000

_Metric = Callable[[Doubles, Doubles, npt.NDArray[np.int64]], Doubles]


def _each(rows: Callable[[Doubles, Doubles], Doubles]) -> _Metric:
    """Turns a row-wise metric into a metric over resamples given by indices."""
    return lambda scores_N, labels_N, index_BN: rows(scores_N[index_BN], labels_N[index_BN])


_RESAMPLED: Mapping[str, _Metric] = {
    "srcc": _each(srcc_rows),
    "plcc": _each(plcc_rows),
    "krcc": krcc_resamples,
    "rmse": _each(rmse_rows),
}


def resamples(n: int, n_boot: int, seed: int | tuple[int, ...]) -> Iterator[npt.NDArray[np.int64]]:
    """Yields index arrays (B, n) from a seeded PCG64 stream, `n_boot` rows in all, in chunks.

    The rows do not depend on the chunk size.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    step = max(1, CHUNK // n)
    for start in range(0, n_boot, step):
        yield generator.integers(0, n, size=(min(step, n_boot - start), n))


def bootstrap_replicates(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    metrics: Iterable[str] = tuple(METRICS),
    n_boot: int = 1000,
    seed: int | tuple[int, ...] = 0,
    curve: Logistic4 | None = None,
) -> dict[str, Doubles]:
    """Each metric on `n_boot` shared resamples of the images.

    Args:
        scores: (N,) scores.
        labels: (N,) labels of the same images.
        metrics: names in `METRICS`.
        n_boot: number of resamples, at least 1, the same for every metric.
        seed: seed of the PCG64 generator; each tuple gives an independent stream.
        curve: a logistic curve that is already fitted; None fits one if a metric needs it.

    Returns:
        (n_boot,) values by metric; NaN where the metric is undefined for a resample.

    Raises:
        TableError: a metric is undefined on the images themselves.
    """
    s, y = check_pair(scores, labels)
    metrics = tuple(metrics)
    logistic = [metric for metric in metrics if metric.endswith("_logistic")]
    if logistic and curve is None:
        curve = fit_logistic(s, y)
    mapped = s if curve is None else curve(s)

    chunks: dict[str, list[Doubles]] = {metric: [] for metric in metrics}
    for index_BN in resamples(s.size, n_boot, seed):
        for metric in metrics:
            resampled = _RESAMPLED[metric.removesuffix("_logistic")]
            scores = mapped if metric in logistic else s
            chunks[metric].append(resampled(scores, y, index_BN))
    return {metric: np.concatenate(parts) for metric, parts in chunks.items()}


def percentile_interval(replicates: Doubles, level: float = 0.95) -> tuple[float, float]:
    """The central interval (low, high) that contains a share `level` (0 to 1) of the replicates.

    Raises:
        TableError: all replicates are NaN.
    """
    kept = replicates[~np.isnan(replicates)]
    if kept.size == 0:
        raise TableError(
            f"The metric is undefined on all {replicates.size} resamples: in each, all scores "
            "or labels are equal; take more resamples or give more images."
        )
    low, high = np.quantile(kept, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
