"""Bootstrap against slow loops over the same resamples, and the coverage of intervals."""

import numpy as np
import pytest
from scipy import stats

from qfm_iqm.errors import TableError
from qfm_iqm.metrics import bootstrap
from qfm_iqm.metrics.bootstrap import (
    bootstrap_replicates,
    percentile_interval,
    resamples,
)
from qfm_iqm.metrics.correlation import METRICS, fit_logistic


def pair(n=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=n).round(1)
    return (labels + rng.normal(size=n)).round(1), labels


def interval_of(scores, labels, metric, *, level=0.95, **options):
    found = bootstrap_replicates(scores, labels, metrics=[metric], **options)
    return percentile_interval(found[metric], level)


def test_replicates_equal_a_slow_loop():
    scores, labels = pair()
    curve = fit_logistic(scores, labels)
    values = bootstrap_replicates(scores, labels, n_boot=50, seed=3)
    assert list(values) == list(METRICS)
    indices = np.concatenate(list(resamples(40, 50, 3)))
    assert indices.shape == (50, 40)
    for b, index in enumerate(indices):
        s = np.array([scores[i] for i in index])
        y = np.array([labels[i] for i in index])
        q = curve(s)
        expected = {
            "srcc": stats.spearmanr(s, y).statistic,
            "plcc": stats.pearsonr(s, y).statistic,
            "plcc_logistic": stats.pearsonr(q, y).statistic,
            "krcc": stats.kendalltau(s, y).statistic,
            "rmse": np.sqrt(np.mean((s - y) ** 2)),
            "rmse_logistic": np.sqrt(np.mean((q - y) ** 2)),
        }
        assert {metric: values[metric][b] for metric in METRICS} == pytest.approx(expected)


def test_chunks_do_not_change_the_resamples(monkeypatch):
    scores, labels = pair()
    whole = bootstrap_replicates(scores, labels, n_boot=30)
    for chunk in (1, 7 * 40, 40 * 30):
        monkeypatch.setattr(bootstrap, "CHUNK", chunk)
        for metric, values in bootstrap_replicates(scores, labels, n_boot=30).items():
            assert np.array_equal(values, whole[metric])


def test_seeds_decide_the_interval():
    scores, labels = pair()
    first = interval_of(scores, labels, "srcc", n_boot=100, seed=1)
    assert first == interval_of(scores, labels, "srcc", n_boot=100, seed=1)
    assert first != interval_of(scores, labels, "srcc", n_boot=100, seed=2)
    drawn = [next(resamples(40, 5, seed)) for seed in ((1, 1), (1, 2), 1)]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_an_interval_does_not_depend_on_the_other_metrics():
    scores, labels = pair()
    together = bootstrap_replicates(scores, labels, n_boot=40)
    for metric in METRICS:
        alone = bootstrap_replicates(scores, labels, metrics=[metric], n_boot=40)
        assert np.array_equal(alone[metric], together[metric])


def test_percentiles_ignore_resamples_without_the_metric():
    values = np.append(np.arange(101.0), [np.nan] * 20)
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert percentile_interval(values, level=0.5) == pytest.approx((25, 75))


def test_degenerate_resamples_are_dropped():
    scores, labels = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0])
    values = bootstrap_replicates(scores, labels, metrics=["srcc", "rmse"], n_boot=300)
    drawn = np.concatenate(list(resamples(3, 300, 0)))
    constant = (drawn == drawn[:, :1]).all(axis=1)
    assert constant.any()
    assert np.array_equal(np.isnan(values["srcc"]), constant)
    assert not np.isnan(values["rmse"]).any()
    low, high = percentile_interval(values["srcc"])
    assert -1 <= low <= high <= 1


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    truth, hits = 0.6, 0
    for _ in range(200):
        labels, scores = rng.multivariate_normal([0, 0], [[1, truth], [truth, 1]], size=80).T
        low, high = interval_of(scores, labels, "plcc", n_boot=300)
        hits += low <= truth <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_more_images_narrow_the_interval():
    widths = []
    for n in (50, 800):
        low, high = interval_of(*pair(n), "srcc", n_boot=200)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_no_replicate_left_is_refused():
    with pytest.raises(TableError, match="undefined on all 3 resamples"):
        percentile_interval(np.full(3, np.nan))
