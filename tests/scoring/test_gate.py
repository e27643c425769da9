import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.errors import QFMError, TableError
from qfm_iqm.scoring.gate import Rule, apply_rule, exit_code
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.table import ScoreTable


def row(score, path="a.jpg", model="m"):
    if score is None:
        return ScoreRow(
            path=path,
            score=None,
            crop_std=None,
            width=None,
            height=None,
            status="error",
            error="cannot read a.jpg: empty",
            model=model,
        )
    return ScoreRow(
        path=path, score=score, crop_std=0.0, width=1, height=1, status="ok", error="", model=model
    )


def earlier(scores, model="m", **more):
    columns = {"path": list(scores), "score": list(scores.values()), "error": [""] * len(scores)}
    return ScoreTable("before.csv", columns | {"model": [model] * len(scores)} | more)


@pytest.mark.parametrize(
    ("score", "rule", "outcome", "says"),
    [
        (60.0, Rule(60), "pass", ""),
        (59.9, Rule(60), "fail", "59.9 is below the limit of 60."),
        (59.9, Rule(60, (50, 60)), "review", "within the review band 50 to 60."),
        (50.0, Rule(60, (50, 60)), "review", "within"),
        (49.9, Rule(60, (50, 60)), "fail", "below the limit"),
        (60.0, Rule(60, (50, 60)), "pass", ""),
        (62.0, Rule(60, (60, 65)), "review", "within"),
        (30.0, Rule(40, higher_is_better=False), "pass", ""),
        (41.0, Rule(40, higher_is_better=False), "fail", "41 is above the limit of 40."),
        (None, Rule(60), "error", "cannot read a.jpg: empty"),
    ],
)
def test_an_image_against_a_rule(score, rule, outcome, says):
    (verdict,) = apply_rule([row(score)], rule)
    assert (verdict.outcome, verdict.score) == (outcome, score)
    assert says in verdict.reason
    assert bool(verdict.reason) == (outcome != "pass")


@pytest.mark.parametrize(
    ("score", "before", "rule", "outcome"),
    [
        (70.0, 72.0, Rule(max_drop=2), "pass"),
        (70.0, 72.5, Rule(max_drop=2), "fail"),
        (80.0, 72.5, Rule(max_drop=2), "pass"),
        (70.0, 70.00005, Rule(max_drop=0), "pass"),  # last digits differ between runtimes
        (70.0, 70.001, Rule(max_drop=0), "fail"),
        (70.0, 75.0, Rule(60, max_drop=2), "fail"),
        (55.0, 60.0, Rule(60, (50, 60), max_drop=2), "fail"),  # a drop fails without review
        (30.0, 27.0, Rule(max_drop=2, higher_is_better=False), "fail"),
        (27.0, 30.0, Rule(max_drop=2, higher_is_better=False), "pass"),
    ],
)
def test_an_image_against_what_it_was(score, before, rule, outcome):
    (verdict,) = apply_rule([row(score)], rule, earlier({"a.jpg": before}))
    assert verdict.outcome == outcome
    assert verdict.baseline == before


def test_images_that_the_baseline_lacks_are_held_against_the_limit_alone():
    rows = [row(50.0, "old.jpg"), row(50.0, "new.jpg")]
    verdicts = apply_rule(rows, Rule(40, max_drop=2), earlier({"old.jpg": 60.0}))
    assert [v.outcome for v in verdicts] == ["fail", "pass"]


def test_without_a_limit_images_that_the_baseline_lacks_are_to_be_reviewed():
    rows = [row(50.0, "old.jpg"), row(50.0, "new.jpg"), row(50.0, "failed.jpg")]
    before = earlier({"old.jpg": 50.0, "failed.jpg": None})
    verdicts = apply_rule(rows, Rule(max_drop=2), before)
    assert [v.outcome for v in verdicts] == ["pass", "review", "review"]
    assert verdicts[1].reason == "There is no limit, and the baseline has no score for it."
    banded = apply_rule(rows, Rule(review=(40, 60), max_drop=2), before)
    assert "review band" in banded[1].reason


def test_a_baseline_that_says_nothing_of_these_images_is_refused():
    with pytest.raises(TableError, match="has none of these images"):
        apply_rule([row(1.0)], Rule(max_drop=1), earlier({"b/other.jpg": 1.0}))
    names = {"path": ["a.jpg", "b.jpg", "a.jpg"], "error": [""] * 3, "model": ["m"] * 3}
    twice = ScoreTable("two.csv", names | {"score": [1.0] * 3})
    with pytest.raises(TableError, match=r"1 path occurs more than once in two\.csv; keep one row"):
        apply_rule([row(1.0, "b.jpg")], Rule(max_drop=1), twice)
    with pytest.raises(TableError, match="was scored with model other and these images with m"):
        apply_rule([row(1.0)], Rule(max_drop=1), earlier({"a.jpg": 1.0}, model="other"))


def test_a_baseline_must_say_its_model_and_weights():
    ours = replace(row(1.0), weights="w")
    for missing in ("model", "weights"):
        columns = earlier({"a.jpg": 1.0}, weights=["w"]).columns
        assert apply_rule([ours], Rule(max_drop=1), ScoreTable("b.csv", columns))
        lacking = {name: values for name, values in columns.items() if name != missing}
        for table in (lacking, columns | {missing: [""]}):
            with pytest.raises(TableError, match=f"b.csv does not say its {missing}"):
                apply_rule([ours], Rule(max_drop=1), ScoreTable("b.csv", table))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "give --min, --max, --max-drop or --max-cause"),
        ({"max_causes": {"blur": -1}}, "costs 0 points or more"),
        ({"max_causes": {"blur": math.nan}}, "finite numbers, but nan"),
        ({"limit": 1, "review": (3, 3)}, "The review band 3:3 is empty"),
        ({"max_drop": -1}, "A drop must be 0 or more"),
        ({"limit": math.nan}, "finite numbers, but nan was given"),
        ({"limit": -math.inf}, "finite numbers, but -inf was given"),
        ({"limit": 1, "review": (math.nan, 5)}, "finite numbers, but nan"),
        ({"max_drop": math.inf}, "finite numbers, but inf"),
    ],
)
def test_a_rule_that_makes_no_sense(arguments, says):
    with pytest.raises(QFMError, match=says):
        Rule(**arguments)


@given(st.lists(st.none() | st.floats(0, 100), max_size=6), st.floats(0, 100))
def test_the_exit_code_is_the_worst_of_all(scores, limit):
    code = exit_code(apply_rule([row(score) for score in scores], Rule(limit)))
    if None in scores:
        assert code == 2
    else:
        assert code == int(any(score < limit for score in scores))
