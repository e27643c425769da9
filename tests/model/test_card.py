import json

import pytest
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
                data="d", part="whole", metric="srcc", images=9, value=0.8, ci_low=0.7, ci_high=0.9
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
        ({"results": [{"data": "d"}]}, r"results\.0\.part"),
        ({"name": 7}, "name"),
        ({"format": "first"}, "format"),
        ({"preprocessing__crop": 128}, "128 pixels and the network takes 64"),
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
    with pytest.raises(ModelError, match=r"is no model folder: it has no card\.json"):
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
    with pytest.raises(ValidationError, match="crops are made at 96 pixels"):
        ModelCard(
            name="x",
            network=NetworkConfig(backbone="test_vit", crop=64),
            preprocessing=Preprocessing(crop=96),
        )
