"""Culling of sights, with any comparison of photos."""

import base64

import numpy as np

from qfm_iqm.culling.cull import cull
from qfm_iqm.culling.measures import NAMES
from qfm_iqm.culling.sights import Sight
from qfm_iqm.model.card import LabelUnits

UNITS = LabelUnits(minimum=0, maximum=100)


def sight(name, score, file=None):
    """A photo taken at the same time as all others, which shows the same."""
    taken, alike = "2024-05-01T12:00:00", base64.b64encode(np.ones(1, "<f2")).decode()
    return Sight(name, sha256=file or name, score=score, taken=taken, hash="00" * 8, layout=alike)


def unmeasured(moments):
    for moment in moments:
        yield np.full((len(moment), len(NAMES)), np.nan)


def test_what_is_compared_is_given_by_the_caller():
    sights = [sight(name, 50.0) for name in "abc"]
    asked = []

    def detail(moments):
        for moment in moments:
            asked.append([one.path for one in moment])
            measures = np.zeros((len(moment), len(NAMES)))
            measures[:, :4] = [[{"a": 0, "b": 3, "c": 1}[one.path]] * 4 for one in moment]
            yield measures

    rows = cull(sights, UNITS, detail)
    assert asked == [["a", "b", "c"]]
    assert [row.path for row in rows] == ["b", "c", "a"]


def test_the_better_score_is_first_in_the_direction_of_the_label():
    sights = [sight("a", 40.0), sight("b", 60.0)]
    lower = LabelUnits(minimum=0, maximum=100, higher_is_better=False)
    for label, best in ((UNITS, "b"), (lower, "a")):
        rows = cull(sights, label, unmeasured)
        assert [row.path for row in rows if row.keep] == [best]


def test_copies_of_a_file_are_equals_however_their_scores_were_rounded():
    sights = [sight("a", 50.0), sight("copy", 50.000001, "a"), sight("b", 20.0)]
    rows = cull(sights, UNITS, unmeasured)
    assert [row.path for row in rows] == ["a", "copy", "b"]
    assert [row.duplicate_of for row in rows] == ["", "a", "a"]
    assert rows[1].score == 50.000001  # unchanged
