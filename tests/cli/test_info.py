"""`qfm info`: facts on a model, from its card."""

import pytest

from qfm_iqm.model.folder import load_card


@pytest.mark.parametrize("model", ["default", "vit-tiny"])
def test_a_shipped_model_says_what_it_is(qfm, model):
    answer = qfm("info", "--model", model)
    assert answer.code == 0, answer.err
    card, lines = load_card(model), answer.out.splitlines()
    told = {line[:20].strip(): line[20:] for line in lines}
    assert told["name"] == model
    assert told["SHA-256"] == card.weights_sha256
    assert told["license"] == card.license
    assert card.network.backbone in told["size"]
    assert told["labels"] == "MOS, 0 to 1, higher is better"
    assert "3500 train, 500 validation, 1000 test" in told["trained on"]
    assert told["method"] == "QFM"
    (srcc,) = (row for row in card.results if (row.subset, row.metric) == ("whole", "srcc"))
    assert told["SRCC, whole"].startswith(f"{srcc.value:.3f} (")
    photos = {"default": 350, "vit-tiny": 500}[model]
    assert told["reference"].startswith(f"{photos} photos: ")


def test_a_card_that_says_little_is_told_too(qfm, tiny_model_folder):
    answer = qfm("info", "-m", tiny_model_folder)
    assert answer.code == 0, answer.err
    assert "no reference statistics" in answer.out
    assert "not recorded" in answer.out


def test_no_such_model_is_one_sentence(qfm):
    answer = qfm("info", "--model", "gone")
    assert answer.code == 2
    assert answer.err.startswith("qfm: There is no model 'gone'")
