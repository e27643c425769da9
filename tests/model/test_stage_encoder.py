import pytest
import timm
import torch
from torch import nn

from qfm_iqm.errors import ModelError
from qfm_iqm.model.stage_encoder import StageEncoder

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


def encoder(**options):
    torch.manual_seed(0)
    return StageEncoder("efficientnet_lite0", mean=MEAN, std=STD, width=48, **options)


def pretrained():
    """Weights with statistics as after training."""
    torch.manual_seed(1)
    network = timm.create_model("efficientnet_lite0")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (96, 160)])
def test_the_maps_are_those_of_timms_last_two_stages(size):
    network = pretrained()
    own = encoder(state=network.state_dict())
    photos = torch.rand(2, 3, *size)
    with torch.inference_mode():
        _, expected = network.forward_intermediates((255 * photos - 127) / 128, indices=2)
        found = own.stages(photos)
    for map_found, map_expected in zip(found, expected, strict=True):
        scale = map_expected.abs().max().item()
        torch.testing.assert_close(map_found, map_expected, rtol=1e-3, atol=1e-4 * scale)


def test_tokens_are_the_places_of_both_stages_behind_a_class_token():
    tokens = encoder()(torch.rand(2, 3, 64, 96))
    assert tokens.shape == (2, 1 + 4 * 6 + 2 * 3, 48)


def test_a_token_comes_of_its_place():
    own = encoder().eval()
    maps = [torch.rand(1, 112, 4, 6), torch.rand(1, 320, 2, 3)]
    before = own.tokens(maps)
    maps[0][0, :, 1, 2] += 1
    changed = (own.tokens(maps) - before).abs().sum(-1)[0] > 1e-6
    assert changed.nonzero().ravel().tolist() == [0, 1 + 6 + 2]


def test_the_class_token_depends_on_nothing_but_mean_and_deviation():
    own = encoder().eval()
    maps = [torch.rand(1, 112, 4, 6), torch.rand(1, 320, 2, 3)]
    turned = [stage.flip(-1) for stage in maps]
    torch.testing.assert_close(own.tokens(maps)[:, 0], own.tokens(turned)[:, 0])
    doubled = [stage * 2 for stage in maps]
    assert (own.tokens(maps)[:, 0] - own.tokens(doubled)[:, 0]).abs().max() > 1e-4


def test_a_flat_photo_has_a_gradient():
    own = encoder()
    own(torch.full((1, 3, 32, 32), 0.5)).sum().backward()
    gradients = [parameter.grad for parameter in own.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_unknown_backbones_and_other_weights_are_refused():
    options = {"mean": MEAN, "std": STD, "width": 48}
    with pytest.raises(ModelError, match="'nothing' is not known"):
        StageEncoder("nothing", **options)
    with pytest.raises(ModelError, match="The weights lack "):
        encoder(state={})
    wrong = pretrained().state_dict() | {"conv_stem.weight": torch.zeros(1, 3, 3, 3)}
    with pytest.raises(ModelError, match="do not fit"):
        encoder(state=wrong)


def test_frozen_blocks_get_no_gradient_and_those_after_them_do():
    network = encoder()
    network.freeze(2)
    network(torch.rand(1, 3, 64, 64)).sum().backward()
    without = {name for name, p in network.backbone.named_parameters() if p.grad is None}
    assert without == {
        name
        for name, _ in network.backbone.named_parameters()
        if name.startswith(("conv_stem.", "blocks.0.", "blocks.1."))
    }


def test_more_blocks_than_there_are_cannot_be_frozen():
    with pytest.raises(ModelError, match="7 groups of blocks: 8 cannot"):
        encoder().freeze(8)
