"""Rows, groups and their mean, and metrics that are undefined."""

import csv

import numpy as np
import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.bootstrap import bootstrap_replicates, percentile_interval
from qfm_iqm.metrics.correlation import METRICS
from qfm_iqm.metrics.evaluation import evaluate


def rated(n=90, seed=0):
    """Scores that separate three groups but say little within a group."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 3
    labels = group + 0.3 * rng.normal(size=n)
    scores = group + 0.3 * rng.normal(size=n)
    groups = {name: np.flatnonzero(group == i) for i, name in enumerate(("c", "a", "b"))}
    return scores, labels, groups


def test_every_part_and_metric_has_its_row():
    scores, labels, groups = rated()
    evaluation = evaluate(scores, labels, groups=groups, n_boot=50)
    expected = [(p, m) for p in ("whole", "a", "b", "c", "subset_mean") for m in METRICS]
    assert [(row.subset, row.metric) for row in evaluation.rows] == expected
    for row in evaluation.rows:
        assert row.n == (90 if row.subset in ("whole", "subset_mean") else 30)
        assert row.ci_low <= row.ci_high and row.note == ""


def test_values_and_intervals_are_those_of_the_functions():
    scores, labels, groups = rated()
    evaluation = evaluate(scores, labels, groups=groups, n_boot=60, seed=5)
    for metric, function in METRICS.items():
        row = evaluation.row("whole", metric)
        assert row.value == function(scores, labels)
        found = bootstrap_replicates(scores, labels, metrics=[metric], n_boot=60, seed=5)
        interval = percentile_interval(found[metric], 0.95)
        assert (row.ci_low, row.ci_high) == interval
        values = [function(scores[rows], labels[rows]) for rows in groups.values()]
        assert evaluation.value("subset_mean", metric) == pytest.approx(np.mean(values))


def test_the_interval_of_the_mean_resamples_within_each_group():
    scores, labels, groups = rated()
    row = evaluate(scores, labels, groups=groups, n_boot=60, seed=5).row("subset_mean", "srcc")
    drawn = [
        bootstrap_replicates(scores[groups[name]], labels[groups[name]], n_boot=60, seed=(5, k))
        for k, name in enumerate("abc", start=1)
    ]
    low, high = np.quantile(np.mean([values["srcc"] for values in drawn], axis=0), (0.025, 0.975))
    assert (row.ci_low, row.ci_high) == pytest.approx((low, high))


def test_the_mean_over_groups_unmasks_scores_that_only_tell_groups_apart():
    evaluation = evaluate(*rated()[:2], groups=rated()[2], n_boot=0)
    assert evaluation.value("whole", "srcc") > 0.8
    assert abs(evaluation.value("subset_mean", "srcc")) < 0.4


def test_without_groups_there_is_only_the_whole():
    evaluation = evaluate(*rated()[:2], n_boot=10)
    assert {row.subset for row in evaluation.rows} == {"whole"}


def test_without_resamples_there_are_no_intervals():
    evaluation = evaluate(*rated()[:2], groups=rated()[2], n_boot=0)
    assert all(row.value is not None and row.ci_low is None for row in evaluation.rows)


def test_some_metrics_alone_are_those_of_all():
    scores, labels, groups = rated()
    whole = evaluate(scores, labels, groups=groups, n_boot=20)
    for some in (("srcc", "plcc"), ("rmse_logistic",)):
        found = evaluate(scores, labels, groups=groups, n_boot=20, metrics=some)
        assert found.rows == tuple(row for row in whole.rows if row.metric in some)
    # Too few images for a logistic curve do not affect the other metrics.
    few = evaluate([1, 2, 4], [1, 3, 2], n_boot=0, metrics=("srcc",))
    assert few.value("whole", "srcc") == pytest.approx(0.5)


def test_a_group_without_an_answer_is_listed_with_the_reason():
    scores, labels, groups = rated()
    scores[groups["b"]] = 0.25
    groups |= {"few": np.array([0, 1, 2, 5]), "pair": np.array([3, 4])}
    evaluation = evaluate(scores, labels, groups=groups, n_boot=20)
    assert "All 30 scores are equal (0.25)" in evaluation.row("b", "rmse").note
    assert "at least 3 images, not 2" in evaluation.row("pair", "srcc").note
    assert evaluation.row("few", "srcc").value is not None
    assert "at least 5 images, not 4" in evaluation.row("few", "plcc_logistic").note
    mean = evaluation.row("subset_mean", "srcc")
    assert mean.value is None and mean.ci_low is None
    assert mean.note == "It is undefined in the group b, pair."
    assert "few" in evaluation.row("subset_mean", "plcc_logistic").note
    with pytest.raises(TableError, match="'srcc' of 'pair' is undefined: A correlation needs"):
        evaluation.value("pair", "srcc")


def test_on_the_whole_a_missing_metric_is_an_error():
    with pytest.raises(TableError, match="All 5 scores are equal"):
        evaluate([1] * 5, [1, 2, 3, 4, 5])
    with pytest.raises(TableError, match=r"plcc_logistic cannot be computed: .* 5 images"):
        evaluate([1, 2, 3, 4], [1, 2, 4, 3])


@pytest.mark.parametrize("name", ["whole", "subset_mean"])
def test_reserved_names_of_groups_are_refused(name):
    with pytest.raises(TableError, match=f"called '{name}'"):
        evaluate(*rated()[:2], groups={name: np.array([0, 1, 2])})


def test_a_row_that_is_not_there_is_refused():
    with pytest.raises(TableError, match="no metric 'ssim' of 'whole': the subsets are whole"):
        evaluate(*rated()[:2], n_boot=0).value("whole", "ssim")


def test_csv_keeps_every_digit(tmp_path):
    scores, labels, groups = rated()
    groups |= {"pair": np.array([0, 1]), "=1+1": np.arange(20)}
    evaluation = evaluate(scores, labels, groups=groups, n_boot=20)
    evaluation.to_csv(tmp_path / "rows.csv", split_sha256="ab12")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["subset", "metric", "n", "value", "ci_low", "ci_high", "note", "split_sha256"]
    assert list(rows[0]) == columns
    assert {row["split_sha256"] for row in rows} == {"ab12"}
    for row, in_csv in zip(evaluation.rows, rows, strict=True):
        assert in_csv["value"] == ("" if row.value is None else repr(row.value))
        assert in_csv["note"] == row.note
        # Not a formula for a spreadsheet.
        assert in_csv["subset"] == ("'=1+1" if row.subset == "=1+1" else row.subset)
