import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfm_iqm.model.card import LabelUnits

RANGES = st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e3)).map(lambda r: (r[0], r[0] + r[1]))


@pytest.mark.parametrize(
    ("units", "value", "shown"),
    [
        (LabelUnits(minimum=0, maximum=1), 0.25, 25),
        (LabelUnits(minimum=1, maximum=5), 4, 75),
        (LabelUnits(minimum=0, maximum=100, higher_is_better=False), 20, 80),
        (LabelUnits(minimum=0, maximum=1), 1.2, 100),
        (LabelUnits(minimum=0, maximum=1), -0.1, 0),
        (LabelUnits(), 37.5, 37.5),
        (LabelUnits(minimum=0), -2, -2),
    ],
)
def test_people_are_shown_0_to_100_and_higher_is_better(units, value, shown):
    assert units.show(value) == pytest.approx(shown)


@given(RANGES, st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_the_map_is_linear_within_the_range(ends, higher, one, other):
    units = LabelUnits(minimum=ends[0], maximum=ends[1], higher_is_better=higher)
    values = [ends[0] + share * (ends[1] - ends[0]) for share in (one, other)]
    apart = units.show(values[0]) - units.show(values[1])
    assert abs(apart) == pytest.approx(units.show_width(values[0] - values[1]), abs=1e-6)
    assert (apart >= -1e-6) is ((values[0] >= values[1]) is higher) or abs(apart) < 1e-6


def test_what_is_shown_says_its_own_units():
    shown = LabelUnits(name="DMOS", minimum=0, maximum=9, higher_is_better=False).shown
    assert (shown.name, shown.minimum, shown.maximum) == ("quality", 0, 100)
    assert shown.higher_is_better
    assert shown.show(42.0) == 42
    assert LabelUnits(name="z").shown == LabelUnits(name="z")
    assert LabelUnits(name="z").show_width(-3) == 3


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(ValidationError, match="must be below maximum"):
        LabelUnits(minimum=5, maximum=1)
