"""The prediction that a card computes from the crops' outputs."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import LabelUnits, ModelCard
from qfm_iqm.model.network import NetworkConfig
from qfm_iqm.model.prediction import score_of
from qfm_iqm.model.reference import Curve, Interval, OODDetector, ReferenceStatistics

DETECTOR = OODDetector(
    names=("a",), mean=(0.0,), whitening=((1.0,),), limit=2.0, false_alarms=0.01, images=9
)


def card(**more):
    return ModelCard(
        name="m",
        network=NetworkConfig(backbone="test_vit", crop=48),
        preprocessing=Preprocessing(crop=48),
        **({"label": LabelUnits(minimum=0, maximum=10)} | more),
    )


INTERVAL = Interval(level=0.9, images=3, scores=(3, 5, 7), half_widths=(1, 1.5, 1), half_width=1.2)


def reference(ood_detector=DETECTOR, interval=True):
    return ReferenceStatistics(
        population="p",
        images=3,
        quantiles=(2.0, 4.0, 6.0),
        interval=INTERVAL if interval else None,
        ood_detector=ood_detector,
    )


def test_without_a_meaning_there_is_a_score_alone():
    score = score_of(card(), [4, 6], width=70, height=80)
    assert (score.value, score.crop_std, score.n_crops) == (50, 10, 2)
    assert (score.width, score.height) == (70, 80)
    assert {score.percentile, score.mos_low, score.mos_high, score.out_of_distribution} == {None}


def test_a_meaning_is_said_on_the_scale_of_the_score():
    score = score_of(
        card(reference_statistics=reference()), [4, 6], width=70, height=80, statistics=[2.5]
    )
    assert (score.percentile, score.mos_low, score.mos_high) == (75, 35, 65)
    assert score.out_of_distribution is True
    near = score_of(
        card(reference_statistics=reference()), [4, 6], width=70, height=80, statistics=[-1.9]
    )
    assert near.out_of_distribution is False
    assert (
        score_of(
            card(reference_statistics=reference()), [4], width=70, height=80
        ).out_of_distribution
        is None
    )


def test_an_interval_ends_where_the_scale_ends():
    low = score_of(card(reference_statistics=reference()), [0.5], width=1, height=1)
    assert (low.value, low.mos_low, low.mos_high) == (5, 0, 15)
    high = score_of(card(reference_statistics=reference()), [10.5], width=1, height=1)
    assert (high.value, high.mos_low, high.mos_high) == (100, 95, 100)


def test_low_labels_that_are_good_are_shown_high():
    units = LabelUnits(minimum=0, maximum=10, higher_is_better=False)
    score = score_of(card(label=units, reference_statistics=reference()), [3], width=1, height=1)
    assert (score.value, score.mos_low, score.mos_high) == pytest.approx((70, 60, 80))
    assert score.percentile == 75


def test_label_units_are_kept_to_be_compared_with_labels():
    score = score_of(
        card(reference_statistics=reference()), [11, 13], width=1, height=1, shown=False
    )
    assert (score.value, score.crop_std) == (12, 1)
    assert (score.mos_low, score.mos_high) == (11, 13)


def test_a_calibration_bends_the_answer_and_the_spread():
    calibrated = card(calibration=Curve(x=(0, 1), y=(2, 4)))
    score = score_of(calibrated, [0.25, 0.75], width=1, height=1)
    assert (score.value, score.crop_std) == pytest.approx((30, 5))


SIDES = st.integers(1, 200)


@given(SIDES, SIDES, st.sampled_from([None, (0.0,), (9.0,)]), st.booleans())
@example(47, 48, (0.0,), True)
@example(48, 47, None, False)
@example(48, 48, (0.0,), True)
def test_an_image_smaller_than_a_crop_is_out_of_distribution_whatever_else_is_known(
    width, height, statistics, explained
):
    told = card(reference_statistics=reference()) if explained else card()
    score = score_of(told, [5], width=width, height=height, statistics=statistics)
    known = None if statistics is None or not explained else statistics[0] > DETECTOR.limit
    assert score.out_of_distribution is (True if width < 48 or height < 48 else known)
