import numpy as np
import pytest
from scipy import stats

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.win_rate import win_rate


def wilson(k, n, z=1.959964):
    middle = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * np.sqrt(k * (n - k) / n + z * z / 4)
    return middle - half, middle + half


def test_against_slow_references():
    draw = np.random.default_rng(4)
    a = draw.normal(60, 10, 200).round()
    b = (a + draw.normal(1, 4, 200)).round()
    found = win_rate(a, b)
    pairs = list(zip(a, b, strict=True))
    wins, losses = sum(y > x for x, y in pairs), sum(y < x for x, y in pairs)
    assert (found.n, found.wins, found.losses) == (200, wins, losses)
    assert wins + losses < 200  # there are ties
    assert found.win_rate == pytest.approx(wins / (wins + losses))
    assert (found.win_low, found.win_high) == pytest.approx(wilson(wins, wins + losses), abs=1e-6)
    assert found.mean == pytest.approx((b - a).mean())
    half = stats.t.ppf(0.975, 199) * stats.sem(b - a)
    assert found.mean_low == pytest.approx(found.mean - half, abs=0.1)
    assert found.mean_high == pytest.approx(found.mean + half, abs=0.1)
    assert found.srcc == pytest.approx(stats.spearmanr(a, b).statistic)


def test_the_interval_of_the_mean_holds_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        a = draw.normal(0, 1, 60)
        found = win_rate(a, a + draw.exponential(0.5, 60))
        held += found.mean_low <= 0.5 <= found.mean_high
    assert 88 <= held <= 99


def test_where_lower_is_better_the_winner_changes_and_the_mean_does_not():
    up, down = (
        win_rate([1, 2, 3], [2, 3, 3]),
        win_rate([1, 2, 3], [2, 3, 3], higher_is_better=False),
    )
    assert (up.wins, up.losses) == (down.losses, down.wins) == (2, 0)
    assert up.mean == down.mean


def test_the_same_scores_have_no_winner():
    found = win_rate([5.0, 5.0], [5.0, 5.0])
    assert (found.win_rate, found.win_low, found.srcc) == (None, None, None)
    assert (found.mean, found.mean_low, found.mean_high) == (0, 0, 0)


def test_many_images_take_the_normal_interval():
    draw = np.random.default_rng(1)
    a = draw.normal(0, 1, 30_000)
    found = win_rate(a, a + draw.normal(0.1, 1, 30_000))
    assert found.mean_high - found.mean_low == pytest.approx(2 * 1.96 / np.sqrt(30_000), rel=0.02)


@pytest.mark.parametrize("pair", [([1], [1]), ([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2])])
def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(TableError, match="the same 2 or more images"):
        win_rate(*pair)
