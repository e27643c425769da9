"""What a card makes of the crops' answers."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import LabelUnits, ModelCard
from qfm_iqm.model.network import NetworkConfig
from qfm_iqm.model.prediction import score_of
from qfm_iqm.model.reference import Curve, Interval, Meaning, Usual

USUAL = Usual(
    names=("a",), mean=(0.0,), whitening=((1.0,),), limit=2.0, false_alarms=0.01, images=9
)


def card(**more):
    return ModelCard(
        name="m",
        network=NetworkConfig(backbone="test_vit", crop=48),
        preprocessing=Preprocessing(crop=48),
        **({"label": LabelUnits(minimum=0, maximum=10)} | more),
    )


def meaning(usual=USUAL, interval=True):
    return Meaning(
        population="p",
        images=3,
        quantiles=(2.0, 4.0, 6.0),
        interval=Interval(level=0.9, images=3, reach=1.5) if interval else None,
        usual=usual,
    )


def test_without_a_meaning_there_is_a_score_alone():
    score = score_of(card(), [4, 6], width=70, height=80)
    assert (score.value, score.spread, score.n_crops) == (50, 10, 2)
    assert (score.width, score.height) == (70, 80)
    assert {score.percentile, score.low, score.high, score.unusual} == {None}


def test_a_meaning_is_said_on_the_scale_of_the_score():
    score = score_of(card(meaning=meaning()), [4, 6], width=70, height=80, statistics=[2.5])
    assert (score.percentile, score.low, score.high) == (75, 35, 65)
    assert score.unusual is True
    near = score_of(card(meaning=meaning()), [4, 6], width=70, height=80, statistics=[-1.9])
    assert near.unusual is False
    assert score_of(card(meaning=meaning()), [4], width=70, height=80).unusual is None


def test_an_interval_ends_where_the_scale_ends():
    low = score_of(card(meaning=meaning()), [0.5], width=1, height=1)
    assert (low.value, low.low, low.high) == (5, 0, 20)
    high = score_of(card(meaning=meaning()), [10.5], width=1, height=1)
    assert (high.value, high.low, high.high) == (100, 90, 100)


def test_low_labels_that_are_good_are_shown_high():
    units = LabelUnits(minimum=0, maximum=10, higher_is_better=False)
    score = score_of(card(label=units, meaning=meaning()), [3], width=1, height=1)
    assert (score.value, score.low, score.high) == pytest.approx((70, 55, 85))
    assert score.percentile == 75


def test_label_units_are_kept_to_be_compared_with_labels():
    score = score_of(card(meaning=meaning()), [11, 13], width=1, height=1, shown=False)
    assert (score.value, score.spread) == (12, 1)
    assert (score.low, score.high) == (10.5, 13.5)


def test_a_calibration_bends_the_answer_and_the_spread():
    calibrated = card(calibration=Curve(x=(0, 1), y=(2, 4)))
    score = score_of(calibrated, [0.25, 0.75], width=1, height=1)
    assert (score.value, score.spread) == pytest.approx((30, 5))


SIDES = st.integers(1, 200)


@given(SIDES, SIDES, st.sampled_from([None, (0.0,), (9.0,)]), st.booleans())
@example(47, 48, (0.0,), True)
@example(48, 47, None, False)
@example(48, 48, (0.0,), True)
def test_an_image_smaller_than_a_crop_is_unusual_whatever_else_is_known(
    width, height, statistics, explained
):
    told = card(meaning=meaning()) if explained else card()
    score = score_of(told, [5], width=width, height=height, statistics=statistics)
    known = None if statistics is None or not explained else statistics[0] > USUAL.limit
    assert score.unusual is (True if width < 48 or height < 48 else known)
