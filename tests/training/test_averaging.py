"""The moving average against its explicit sum."""

import copy

import pytest
import torch

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.averaging import MovingAverage, interpolated


def model_of(seed):
    torch.manual_seed(seed)
    network = QualityNetwork("test_vit", crop=32)
    card = ModelCard(name="m", network=network.config, preprocessing=Preprocessing(crop=32))
    return QualityModel(network, card)


def test_weights_are_averaged_as_the_decay_says():
    model = model_of(0)
    average = MovingAverage(model, 0.6)
    expected = model.network.decoder.head.weight.detach().double().clone()
    for step in range(12):
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(model)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.network.decoder.head.weight.double()
    found = average.model.network.decoder.head.weight
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert not found.requires_grad
    assert average.model.card is model.card  # both share one card


def test_it_goes_on_from_its_state():
    model = model_of(0)
    whole, half = MovingAverage(model, 0.9), MovingAverage(model, 0.9)
    others = [model_of(seed) for seed in range(1, 5)]
    for other in others:
        whole.update(other)
    for other in others[:2]:
        half.update(other)
    resumed = MovingAverage(model_of(9), 0.9)
    resumed.load_state_dict(copy.deepcopy(half.state_dict()))
    for other in others[2:]:
        resumed.update(other)
    expected = whole.model.network.state_dict()
    for key, value in resumed.model.network.state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_between_two_models(share):
    start, end = model_of(0), model_of(1)
    start.network.scale.mean.fill_(1.0)
    end.network.scale.mean.fill_(3.0)
    before = copy.deepcopy(end.network.state_dict())
    between = interpolated(start, end, share)
    first, last = start.network.state_dict(), end.network.state_dict()
    for key, found in between.network.state_dict().items():
        torch.testing.assert_close(found, share * first[key] + (1 - share) * last[key])
        assert torch.equal(last[key], before[key])  # the trained model is unchanged
    assert between.network.scale.mean.item() == pytest.approx(3 - 2 * share)
    assert between.card is end.card


def test_buffers_are_the_latest():
    model = model_of(0)
    average = MovingAverage(model, 0.9)
    model.network.scale.mean.fill_(7.0)
    for _ in range(200):
        average.update(model)
    assert average.model.network.scale.mean.item() == pytest.approx(7.0)
