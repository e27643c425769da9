"""Evaluation: every metric with its interval, on the whole dataset and on each group.

Groups are reported because scores that only separate the groups can look good on the whole; the
mean over groups (`subset_mean`) shows the performance within them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import bootstrap_replicates, percentile_interval
from qfm_iqm.metrics.correlation import METRICS, Logistic4, check_pair, fit_logistic
from qfm_iqm.text_tables import read_dicts, write_csv

WHOLE = "whole"
SUBSET_MEAN = "subset_mean"
LEVEL = 0.95


@dataclass(frozen=True)
class Row:
    """One metric on one subset.

    Attributes:
        subset: `whole`, a group's name, or `subset_mean`.
        metric: a name in `METRICS`.
        n: number of images in the subset.
        value: value of the metric; None if it is undefined on this subset.
        ci_low: lower end of the 95 % interval; None without a value or without resamples.
        ci_high: upper end of the interval; None likewise.
        note: why there is no value; else empty.
    """

    subset: str
    metric: str
    n: int
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation, subsets in the order whole, groups, subset_mean.

    Attributes:
        rows: one row per subset and metric.
    """

    rows: tuple[Row, ...]

    def row(self, subset: str, metric: str) -> Row:
        """The row of a subset and metric.

        Raises:
            TableError: there is no such row.
        """
        for row in self.rows:
            if (row.subset, row.metric) == (subset, metric):
                return row
        subsets = ", ".join(dict.fromkeys(row.subset for row in self.rows))
        raise TableError(
            f"There is no metric '{metric}' of '{subset}': the subsets are {subsets}; "
            f"the metrics are {', '.join(METRICS)}."
        )

    def value(self, subset: str, metric: str) -> float:
        """The value of a metric on a subset.

        Raises:
            TableError: there is no such row, or the metric is undefined there (with the reason).
        """
        row = self.row(subset, metric)
        if row.value is None:
            raise TableError(f"The metric '{metric}' of '{subset}' is undefined: {row.note}")
        return row.value

    def to_csv(self, path: Path | str, *, split_sha256: str = "") -> None:
        """Writes the rows as CSV in full precision; an empty cell stands for None.

        Args:
            path: file to write.
            split_sha256: hash of the split that was evaluated, written to its own column.
        """
        columns = [*(f.name for f in fields(Row)), "split_sha256"]
        write_csv(Path(path), columns, ((*astuple(row), split_sha256) for row in self.rows))

    @staticmethod
    def from_csv(path: Path) -> "Evaluation":
        """Reads a file written by `to_csv`.

        Raises:
            TableError: the file is no such table.
        """

        def number(cell: str) -> float | None:
            return float(cell) if cell else None

        try:
            return Evaluation(
                tuple(
                    Row(
                        cells["subset"],
                        cells["metric"],
                        int(cells["n"]),
                        number(cells["value"]),
                        number(cells["ci_low"]),
                        number(cells["ci_high"]),
                        cells["note"],
                    )
                    for cells in read_dicts(path, *(f.name for f in fields(Row)))
                )
            )
        except ValueError as error:
            raise TableError(f"{path} is not an evaluation: {error}.") from error


def evaluate(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    groups: Mapping[str, npt.NDArray[np.integer]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    metrics: Sequence[str] = tuple(METRICS),
) -> Evaluation:
    """Computes metrics on the whole, on each group, and their mean over groups.

    A metric that is undefined on a group (fewer than 3 images, or 5 for the logistic metrics; all
    scores or labels equal) is listed with the reason and without a value. Its mean over groups is
    then missing too, because a mean over the other groups would be a different quantity. A metric
    that is undefined on the whole is an error. Each subset gets its own logistic curve.

    For the interval of `subset_mean`, images are resampled within each group independently.

    Args:
        scores: (N,) scores.
        labels: (N,) labels of the same images.
        groups: distinct row indices by group name; groups may overlap and need not cover all rows.
        n_boot: resamples per subset, shared by all metrics; 0 computes no intervals.
        seed: seed of the resamples.
        metrics: keys of `METRICS`; the logistic metrics are the slowest.

    Raises:
        TableError: a metric cannot be computed on all images, or a group has a reserved name.
    """
    s, y = check_pair(scores, labels)
    for name in groups or {}:
        if name in (WHOLE, SUBSET_MEAN):
            raise TableError(
                f"A group is called '{name}', but that name is reserved for a subset of every "
                "evaluation; rename the group."
            )
    whole = _measure(s, y, metrics, n_boot, (seed,))
    for metric, reason in whole.notes.items():
        raise TableError(f"{metric} cannot be computed: {reason[0].lower()}{reason[1:]}")
    # Each group has its own random stream. With a shared one, groups of equal size would draw the
    # same rows, and their mean would vary too much if the groups are sorted in the same way.
    subsets = {
        name: _measure(s[rows], y[rows], metrics, n_boot, (seed, number))
        for number, (name, rows) in enumerate(sorted((groups or {}).items()), start=1)
    }
    table = [whole.row(WHOLE, metric) for metric in metrics]
    table += [subset.row(name, metric) for name, subset in subsets.items() for metric in metrics]
    if subsets:
        mean = _mean(subsets, metrics)
        table += [mean.row(SUBSET_MEAN, metric) for metric in metrics]
    return Evaluation(tuple(table))


@dataclass(frozen=True)
class _Measured:
    """Results on one subset: per metric a value and its replicates, or a note why not."""

    n: int
    values: dict[str, float]
    replicates: dict[str, Doubles]
    notes: dict[str, str]

    def row(self, subset: str, metric: str) -> Row:
        if metric in self.notes:
            return Row(subset, metric, self.n, None, note=self.notes[metric])
        value = self.values[metric]
        if metric not in self.replicates:
            return Row(subset, metric, self.n, value)
        return Row(
            subset, metric, self.n, value, *percentile_interval(self.replicates[metric], LEVEL)
        )


def _measure(
    s: Doubles, y: Doubles, metrics: Sequence[str], n_boot: int, seed: tuple[int, ...]
) -> _Measured:
    try:
        check_pair(s, y)
    except TableError as error:
        return _Measured(s.size, {}, {}, dict.fromkeys(metrics, str(error)))
    notes: dict[str, str] = {}
    curve: Logistic4 | None = None
    logistic = [metric for metric in metrics if metric.endswith("_logistic")]
    if logistic:
        try:
            curve = fit_logistic(s, y)
        except TableError as error:
            notes = dict.fromkeys(logistic, str(error))
    possible = [metric for metric in metrics if metric not in notes]
    values = {metric: METRICS[metric](s, y) for metric in possible}
    replicates = (
        bootstrap_replicates(s, y, metrics=possible, n_boot=n_boot, seed=seed, curve=curve)
        if n_boot
        else {}
    )
    return _Measured(s.size, values, replicates, notes)


def _mean(subsets: Mapping[str, _Measured], metrics: Sequence[str]) -> _Measured:
    """The mean of each metric over subsets, for the values and for each resample."""
    values: dict[str, float] = {}
    replicates: dict[str, Doubles] = {}
    notes: dict[str, str] = {}
    for metric in metrics:
        lacking = [name for name, subset in subsets.items() if metric in subset.notes]
        if lacking:
            notes[metric] = f"It is undefined in the group {', '.join(lacking)}."
            continue
        values[metric] = float(np.mean([subset.values[metric] for subset in subsets.values()]))
        drawn = [subset.replicates[metric] for subset in subsets.values() if subset.replicates]
        if drawn:
            replicates[metric] = np.mean(drawn, axis=0)
    return _Measured(sum(subset.n for subset in subsets.values()), values, replicates, notes)
