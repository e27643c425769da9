"""Coverage of intervals on many random sets."""

import numpy as np
import pytest

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.calibration import conformal_half_width, coverage


def drawn(seed, n):
    """Scores, and labels whose error grows with the score and is skewed."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0, 1, n)
    return scores, scores + (0.05 + 0.3 * scores) * (draw.exponential(1, n) - 1)


@pytest.mark.parametrize(("n", "level", "place"), [(9, 0.9, 9), (19, 0.9, 18), (100, 0.5, 51)])
def test_the_reach_is_the_right_order_statistic(n, level, place):
    errors = np.random.default_rng(1).permutation(np.arange(1, n + 1)) * -1.0
    assert conformal_half_width(errors, level) == place


def test_too_few_images_for_a_level_are_refused():
    with pytest.raises(TableError, match=r"90% of images needs at least 9 rated images, .* are 8"):
        conformal_half_width(np.ones(8), 0.9)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_it_holds_as_many_further_labels_as_it_says(level):
    held, widths = [], []
    for seed in range(200):
        scores, labels = drawn(seed, 200)
        half_width = conformal_half_width(labels - scores, level)
        scores, labels = drawn(1000 + seed, 500)
        share, width = coverage(labels, scores - half_width, scores + half_width)
        held.append(share)
        widths.append(width - 2 * half_width)
    assert level - 0.005 <= np.mean(held) <= level + 0.01
    assert np.allclose(widths, 0)
