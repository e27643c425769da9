import copy

import pytest
import timm
import torch
from torch import nn

from qfm_iqm.errors import ModelError
from qfm_iqm.model.frozen_norm import (
    FrozenNormConv,
    freeze_norms,
    plain_convolutions,
    scaled_weights,
)


def with_statistics(network, seed=0):
    """Batch norms as after training: nothing in them is 0 or 1."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 3)
    return network.eval()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv4_conv_small"])
def test_a_folded_network_gives_the_same_features(name):
    network = with_statistics(timm.create_model(name, num_classes=0))
    crops = torch.rand(2, 3, 97, 130)
    with torch.inference_mode():
        expected = network.forward_features(crops)
        freeze_norms(network)
        found = network.forward_features(crops)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_training_takes_the_steps_of_the_frozen_norm():
    torch.manual_seed(0)
    plain = with_statistics(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    )
    folded = copy.deepcopy(plain)
    freeze_norms(folded)
    assert isinstance(folded[0], FrozenNormConv)
    crops = torch.rand(4, 3, 16, 16)
    for network in (plain, folded):
        optimizer = torch.optim.AdamW([network[0].weight], lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            network(crops).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(folded[0].weight, plain[0].weight, rtol=1e-4, atol=1e-5)


def test_a_folded_network_is_saved_and_loaded():
    network = with_statistics(timm.create_model("efficientnet_lite0", num_classes=0))
    freeze_norms(network)
    other = timm.create_model("efficientnet_lite0", num_classes=0).eval()
    freeze_norms(other)
    other.load_state_dict(network.state_dict())
    crops = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(other.forward_features(crops), network.forward_features(crops))


def test_a_norm_before_its_convolution_is_refused():
    with pytest.raises(ModelError, match="The batch norm '0' does not follow a plain convolution"):
        freeze_norms(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)))


def test_a_bias_and_a_dilation_are_kept():
    network = with_statistics(
        nn.Sequential(nn.Conv2d(4, 8, 3, dilation=2, groups=2, stride=2), nn.BatchNorm2d(8))
    )
    crops = torch.rand(1, 4, 17, 19)
    expected = network(crops)
    freeze_norms(network)
    torch.testing.assert_close(network(crops), expected)


@torch.inference_mode()
def test_scales_join_the_weights_and_the_function_stays():
    network = with_statistics(timm.create_model("efficientnet_lite0", num_classes=0))
    freeze_norms(network)
    crops = torch.rand(1, 3, 64, 80)
    expected = network.forward_features(crops)
    plain = plain_convolutions(network).forward_features(crops)
    state = scaled_weights(network.state_dict())
    assert state.keys() == network.state_dict().keys()
    assert all((value == 1).all() for key, value in state.items() if key.endswith(".scale"))
    network.load_state_dict(state)
    for found in (plain, network.forward_features(crops)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max())
    copied = list(plain_convolutions(network).modules())
    assert not any(isinstance(module, FrozenNormConv) for module in copied)
    assert any(getattr(module, "inplace", False) for module in network.modules())
    assert not any(getattr(module, "inplace", False) for module in copied)


def test_a_state_without_scales_is_given_back():
    state = {"scale.mean": torch.tensor(3.0), "decoder.head.weight": torch.ones(1, 4)}
    assert all(scaled_weights(state)[key] is value for key, value in state.items())
