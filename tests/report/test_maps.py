import numpy as np
import pytest

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.quality_map import QualityMap
from qfm_iqm.report.maps import map_data

SCALE = LabelUnits(minimum=0, maximum=100)


def quality_map(values, score):
    return QualityMap(np.asarray(values, np.float32), score, 8, 8)


def test_steps_stand_for_values():
    values = [[30.0, 50.0], [60.0, 65.0], [40.0, 55.0]]
    found = map_data(quality_map(values, 50.0), SCALE)
    assert (found["rows"], found["columns"]) == (3, 2)
    assert (found["low"], found["high"]) == (30, 70)
    drawn = found["low"] + np.array(found["values"]) / 255 * (found["high"] - found["low"])
    assert drawn == pytest.approx(np.ravel(values), abs=40 / 255)


def test_small_differences_are_not_blown_up():
    found = map_data(quality_map([[49.0, 51.0]], 50.0), SCALE)
    assert (found["low"], found["high"]) == (40, 60)
    assert max(found["values"]) < 145


def test_a_flat_map_without_a_scale():
    found = map_data(quality_map([[5.0, 5.0]], 5.0), LabelUnits())
    assert found["values"] == [127, 127]
