import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfm_iqm.errors import ModelError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import (
    CARD_FORMAT,
    LabelUnits,
    ModelCard,
    NetworkConfig,
    ResultRow,
    read_card,
)

RANGES = st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 1e3)).map(lambda r: (r[0], r[0] + r[1]))


@pytest.fixture
def card():
    return ModelCard(
        name="Größe 1",
        description="Two\nlines.",
        license="Apache-2.0",
        network=NetworkConfig(backbone="test_vit", crop=64, heads=2),
        preprocessing=Preprocessing(crop=64, shorter_side=512),
        label=LabelUnits(name="DMOS", minimum=0, maximum=100, higher_is_better=False),
        training={"data": "somewhere", "split_sha256": "ab", "recipe": {"train": {"epochs": 3}}},
        results=[
            ResultRow(
                data="d",
                subset="whole",
                metric="srcc",
                images=9,
                value=0.8,
                ci_low=0.7,
                ci_high=0.9,
            )
        ],
    )


def test_written_and_read_it_is_the_same(card, tmp_path):
    path = tmp_path / "card.json"
    path.write_text(card.model_dump_json(), "utf-8")
    assert read_card(path) == card


def changed(card, path, **changes):
    content = json.loads(card.model_dump_json())
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = content
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unknown": 1}, "unknown"),
        ({"network__depth": 12}, r"network\.depth"),
        ({"network__crop": "64"}, r"network\.crop"),
        ({"network__backbone": None}, r"network\.backbone"),
        ({"preprocessing__crop": 1}, r"preprocessing\.crop"),
        ({"preprocessing": None}, "preprocessing"),
        ({"label__minimum": "low"}, r"label\.minimum"),
        ({"results": [{"data": "d"}]}, r"results\.0\.subset"),
        ({"name": 7}, "name"),
        ({"format": "first"}, "format"),
        ({"preprocessing__crop": 128}, "128 pixels per side, but the network takes 64"),
    ],
)
def test_a_wrong_field_is_named_in_one_sentence(card, tmp_path, changes, named):
    path = changed(card, tmp_path / "card.json", **changes)
    with pytest.raises(ModelError, match=f"card.json is not valid at .*{named}") as refused:
        read_card(path)
    assert "\n" not in str(refused.value)
    assert "pydantic" not in str(refused.value)


def test_a_later_format_asks_for_an_upgrade(card, tmp_path):
    later = changed(card, tmp_path / "card.json", format=CARD_FORMAT + 1, news="from the future")
    with pytest.raises(ModelError, match=rf"format {CARD_FORMAT + 1}, .* up to .*pip install -U"):
        read_card(later)


def test_a_missing_card_says_that_it_is_no_model_folder(tmp_path):
    with pytest.raises(ModelError, match=r"is not a model folder: it has no card\.json"):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 5])
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"card"'])
def test_json_that_is_no_card_is_refused(tmp_path, content):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ModelError, match="is not valid at the card"):
        read_card(tmp_path / "card.json")


def test_a_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / "card.json").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "card.json")


def test_crops_are_what_the_network_takes():
    with pytest.raises(ValidationError, match="crops have 96 pixels"):
        ModelCard(
            name="x",
            network=NetworkConfig(backbone="test_vit", crop=64),
            preprocessing=Preprocessing(crop=96),
        )


# ---- the units of labels ----


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


def test_units_refuse_an_unknown_field():
    with pytest.raises(ValidationError, match="unit"):
        LabelUnits(unit="DMOS")
    assert LabelUnits().higher_is_better
