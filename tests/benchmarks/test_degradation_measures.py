import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from degradation_measures import curve_of, detection, level_order


def test_the_level_order_counts_adjacent_pairs_and_ties_are_wrong():
    assert level_order([[5, 4, 3], [5, 5, 6]]) == 0.5
    assert level_order([[3, 2, 1]]) == 1


def test_detection_is_the_area_under_the_curve_and_the_best_threshold():
    draw = np.random.default_rng(0)
    clean, degraded = draw.normal(1, 1, 40).round(1), draw.normal(0, 1, 90).round(1)
    area, balanced = detection(clean, degraded)
    truth, scores = np.repeat([1, 0], [40, 90]), np.concatenate([clean, degraded])
    assert area == pytest.approx(roc_auc_score(truth, scores))
    best = max(balanced_accuracy_score(truth, scores >= t) for t in np.unique(scores))
    assert balanced == pytest.approx(best)
    assert detection([2, 3], [0, 1]) == (1, 1)


def test_a_curve_is_the_mean_of_each_level():
    assert curve_of([[3, 1], [5, 2]]) == [4, 1.5]
