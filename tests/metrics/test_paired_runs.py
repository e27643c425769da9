"""Paired comparisons against the same computed one by one."""

import csv
import itertools

import numpy as np
import pytest
from scipy import stats

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.paired_runs import Comparison, Run, compare
from qfm_iqm.text_tables import write_csv

BASELINE = {0: 0.80, 1: 0.82, 2: 0.78, 3: 0.81, 4: 0.79}
GAIN = {0: 0.010, 1: 0.004, 2: -0.002, 3: 0.007, 4: 0.003}


def runs_of(variant, values, *, setting="all", metric="srcc", subset="whole"):
    return [Run(setting, variant, seed, metric, subset, value) for seed, value in values.items()]


def two_variants():
    better = {seed: value + GAIN[seed] for seed, value in BASELINE.items()}
    return [*runs_of("baseline", BASELINE), *runs_of("qfm", better)]


def only(comparisons, **wanted):
    (found,) = [
        c for c in comparisons if all(getattr(c, key) == value for key, value in wanted.items())
    ]
    return found


def test_differences_are_taken_within_pairs():
    found = only(compare(two_variants(), ["baseline"]), variant="qfm")
    assert found.pairs == 5
    assert found.mean_difference == pytest.approx(sum(GAIN.values()) / 5)
    assert found.median == pytest.approx(sorted(BASELINE[s] + GAIN[s] for s in GAIN)[2])
    assert found.p == pytest.approx(stats.wilcoxon(list(GAIN.values())).pvalue)


def test_the_t_interval_is_scipys():
    found = only(compare(two_variants(), ["baseline"], interval="t"), variant="qfm")
    expected = stats.ttest_1samp(list(GAIN.values()), 0).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_the_interval_is_that_of_all_resamples():
    """With five pairs all 5^5 resamples can be listed."""
    found = only(compare(two_variants(), ["baseline"]), variant="qfm")
    means = [np.mean(drawn) for drawn in itertools.product(GAIN.values(), repeat=5)]
    low, high = np.percentile(means, [2.5, 97.5])
    assert found.ci_low == pytest.approx(low, abs=3e-4)
    assert found.ci_high == pytest.approx(high, abs=3e-4)


def test_a_variant_is_no_better_than_itself():
    found = only(compare(two_variants(), ["baseline"]), variant="baseline")
    assert (found.mean_difference, found.ci_low, found.ci_high, found.p) == (0, 0, 0, 1)


def test_only_runs_with_a_partner_count():
    runs = [*runs_of("baseline", BASELINE), *runs_of("qfm", {0: 0.9, 9: 0.1})]
    found = only(compare(runs, ["baseline"]), variant="qfm")
    assert (found.pairs, found.median) == (1, 0.9)
    assert np.isnan([found.ci_low, found.ci_high]).all()  # one pair tells nothing about others
    assert compare([*runs_of("baseline", {0: 0.5}), *runs_of("qfm", {1: 0.5})], ["baseline"]) == [
        only(compare(runs_of("baseline", {0: 0.5}), ["baseline"]))
    ]


def test_settings_metrics_and_parts_stay_apart():
    runs = [
        *two_variants(),
        *runs_of("baseline", {0: 0.1}, setting="few"),
        *runs_of("qfm", {0: 0.3}, setting="few"),
        *runs_of("baseline", {0: 0.2}, metric="plcc"),
        *runs_of("qfm", {0: 0.1}, subset="ss01"),
    ]
    found = compare(runs, ["baseline"])
    assert only(found, setting="few", variant="qfm").mean_difference == pytest.approx(0.2)
    assert only(found, metric="plcc").variant == "baseline"
    assert not [c for c in found if c.subset == "ss01"]  # no reference there
    assert only(found, setting="all", metric="srcc", subset="whole", variant="qfm").pairs == 5


def test_mistakes_are_told():
    with pytest.raises(TableError, match=r"no run of the reference 'gaussian'.*baseline, qfm"):
        compare(two_variants(), ["baseline", "gaussian"])
    with pytest.raises(TableError, match="two values of srcc on whole for seed 1 of qfm"):
        compare([*two_variants(), Run("all", "qfm", 1, "srcc", "whole", 0.5)], ["baseline"])


def test_the_table_has_the_stated_columns(tmp_path):
    comparisons = compare(two_variants(), ["baseline"])
    write_csv(tmp_path / "summary.csv", Comparison._fields, comparisons)
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == (
        "setting,variant,reference,metric,subset,pairs,median,mean_difference,ci_low,ci_high,p"
    )
    assert len(rows) == len(comparisons) == 2
    assert (
        Comparison(
            *(rows[1][key] for key in ("setting", "variant", "reference", "metric", "subset")),
            int(rows[1]["pairs"]),
            *(
                float(rows[1][key])
                for key in ("median", "mean_difference", "ci_low", "ci_high", "p")
            ),
        )
        == comparisons[1]
    )
