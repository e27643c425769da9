"""Paired comparison of training variants over the same splits and seeds.

Every run of a variant is paired with the reference's run of the same split, seed, crops and batch
order, and the differences within pairs are compared. With few pairs no test has much power (the
smallest two-sided Wilcoxon p is .25 for three pairs and .0625 for five), so the number of pairs is
reported with every figure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import t, wilcoxon

from qfm_iqm.errors import TableError

RESAMPLES = 10_000


class Run(NamedTuple):
    """One figure of one training run.

    Attributes:
        setting: data and share of labels.
        variant: variant of the method.
        seed: seed of split and training; runs with the same seed are paired.
        metric: "srcc" or "plcc".
        subset: "whole", the name of a group, or "subset_mean".
        value: value of the metric on the evaluated split.
    """

    setting: str
    variant: str
    seed: int
    metric: str
    subset: str
    value: float


class Comparison(NamedTuple):
    """Comparison of a variant with a reference, for one setting, metric and subset of `Run`.

    Attributes:
        variant: the variant.
        reference: the reference; the differences of the reference itself are 0.
        pairs: number of pairs.
        median: median of the variant's values over these pairs.
        mean_difference: mean of variant minus reference within pairs.
        ci_low: lower end of the 95 % interval of the mean difference, by bootstrap or Student's t;
            NaN for a single pair.
        ci_high: upper end of the interval.
        p: two-sided Wilcoxon signed-rank test; 1 if all differences are zero.
    """

    setting: str
    variant: str
    reference: str
    metric: str
    subset: str
    pairs: int
    median: float
    mean_difference: float
    ci_low: float
    ci_high: float
    p: float


def compare(
    runs: Iterable[Run],
    references: Sequence[str],
    *,
    interval: Literal["bootstrap", "t"] = "bootstrap",
) -> list[Comparison]:
    """Compares every variant with every reference over their runs with the same seeds.

    Args:
        runs: figures of runs, in any order.
        references: variants to compare with.
        interval: method for the interval of the mean difference.

    Raises:
        TableError: a reference has no run, or a run has two values.
    """
    values: dict[tuple[str, str, str], dict[str, dict[int, float]]] = {}
    for run in runs:
        of_variant = values.setdefault((run.setting, run.metric, run.subset), {})
        of_seed = of_variant.setdefault(run.variant, {})
        if run.seed in of_seed:
            raise TableError(
                f"There are two values of {run.metric} on {run.subset} for seed {run.seed} of "
                f"{run.variant} in {run.setting}: keep one."
            )
        of_seed[run.seed] = run.value
    known = {variant for of_variant in values.values() for variant in of_variant}
    for reference in references:
        if reference not in known:
            raise TableError(
                f"There is no run of the reference '{reference}': the variants are "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    return [
        _compare(key, variant, reference, of_variant[variant], of_variant[reference], interval)
        for key, of_variant in values.items()
        for reference in references
        if reference in of_variant
        for variant in of_variant
        if of_variant[variant].keys() & of_variant[reference].keys()
    ]


def _compare(
    key: tuple[str, str, str],
    variant: str,
    reference: str,
    own: Mapping[int, float],
    other: Mapping[int, float],
    interval: Literal["bootstrap", "t"],
) -> Comparison:
    setting, metric, subset = key
    seeds = sorted(own.keys() & other.keys())
    mine = np.array([own[s] for s in seeds])
    differences = mine - np.array([other[s] for s in seeds])
    if len(seeds) < 2:
        low = high = np.nan
    elif interval == "t":
        half = t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
        low, high = differences.mean() - half, differences.mean() + half
    else:
        draw = np.random.default_rng(0)
        means = differences[draw.integers(len(seeds), size=(RESAMPLES, len(seeds)))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Comparison(
        setting=setting,
        variant=variant,
        reference=reference,
        metric=metric,
        subset=subset,
        pairs=len(seeds),
        median=float(np.median(mine)),
        mean_difference=float(differences.mean()),
        ci_low=float(low),
        ci_high=float(high),
        p=p,
    )
