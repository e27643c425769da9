import numpy as np
import pytest

from qfm_iqm.report.curves import POINTS, curves
from qfm_iqm.scoring.video import FrameScore


def test_a_short_curve_has_all_its_frames():
    frames = [FrameScore("b", time / 2, 10.0 + time) for time in range(5)]
    found = curves([FrameScore("other", 0.0, 1.0), *frames], ["a", "b"])
    assert found == {1: [[0, 0.5, 1, 1.5, 2], [10, 11, 12, 13, 14]]}


@pytest.mark.parametrize("count", [POINTS, POINTS + 1, 10_000])
def test_a_long_curve_keeps_its_mean(count):
    scores = np.random.default_rng(1).uniform(0, 100, count)
    frames = [FrameScore("a", float(time), score) for time, score in enumerate(scores.tolist())]
    times, points = curves(frames, ["a"])[0]
    assert len(times) == len(points) <= POINTS
    assert times == sorted(times)
    step = -(-count // POINTS)
    assert points[0] == pytest.approx(scores[:step].mean(), abs=0.01)
    assert points[-1] == pytest.approx(scores[step * (len(points) - 1) :].mean(), abs=0.01)
