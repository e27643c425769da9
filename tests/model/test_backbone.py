from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from qfm_iqm.errors import ModelError
from qfm_iqm.model.backbone import TimmEncoder
from qfm_iqm.model.network import QualityNetwork

SHARED = Path(__file__).parents[3] / "shared"
VIT_TINY = SHARED / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"


def normalized(crops, config):
    """Pixel by pixel, channel by channel, in float64."""
    planes = [(crops[:, c].double() - config["mean"][c]) / config["std"][c] for c in range(3)]
    return torch.stack(planes, 1)


@pytest.fixture(scope="module")
def crops():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "prefix", "has_class", "patches"),
    [
        ("test_vit", 1, True, 16),
        ("test_vit2", 1, False, 16),  # a register token, no class token
        ("test_vit_relpos", 0, False, 16),
        ("deit_tiny_distilled_patch16_224", 2, True, 16),  # class and distillation token
    ],
)
def test_transformer_tokens(name, prefix, has_class, patches, crops):
    encoder = TimmEncoder(name, crop=64).double().eval()
    plain = encoder.backbone.forward_features(normalized(crops, encoder.backbone.pretrained_cfg))
    tokens = encoder(crops.double())
    assert tokens.shape == (2, 1 + patches, encoder.width)
    expected = [plain[:, prefix + n] for n in range(patches)]
    torch.testing.assert_close(tokens[:, 1:], torch.stack(expected, 1), rtol=0, atol=1e-5)
    first = plain[:, 0] if has_class else sum(expected) / patches
    torch.testing.assert_close(tokens[:, 0], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels_last"),
    [("test_resnet", False), ("test_efficientnet", False), ("test_mambaout", True)],
)
def test_maps_are_flattened_row_by_row(name, channels_last):
    crops = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    encoder = TimmEncoder(name, crop=96).double().eval()
    plain = encoder.backbone.forward_features(normalized(crops, encoder.backbone.pretrained_cfg))
    tokens = encoder(crops)
    assert tokens.shape == (2, 10, encoder.backbone_width)
    for n in range(9):
        row, column = divmod(n, 3)
        place = plain[:, row, column] if channels_last else plain[:, :, row, column]
        torch.testing.assert_close(tokens[:, 1 + n], place, rtol=0, atol=1e-5)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(1))


def test_pixels_are_normalized_by_the_backbones_own_numbers(crops):
    encoder = TimmEncoder("levit_128s", crop=64)  # ImageNet's mean, the test_* have 0.5
    seen = []
    encoder.backbone.forward_features = lambda x: seen.append(x) or torch.zeros(2, 1, 384)
    encoder(crops)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (crops.permute(0, 2, 3, 1).numpy() - mean) / std
    np.testing.assert_allclose(seen[0].permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


def test_a_projection_changes_the_width_alone(crops):
    encoder = TimmEncoder("test_resnet", crop=64, width=40).double().eval()
    tokens = encoder(crops.double())
    assert tokens.shape == (2, 5, 40)
    plain = encoder.backbone.forward_features(normalized(crops, encoder.backbone.pretrained_cfg))
    by_hand = plain.flatten(2).mT @ encoder.project.weight.T + encoder.project.bias
    torch.testing.assert_close(tokens[:, 1:], by_hand, rtol=0, atol=1e-5)


def test_normalization_is_not_kept_in_the_file():
    assert not {"mean", "std"} & TimmEncoder("test_resnet", crop=64).state_dict().keys()


@pytest.mark.parametrize("name", ["no_such_net", "test_vit.no_such_tag", "", "hub:test_vit"])
def test_an_unknown_backbone_is_refused(name):
    with pytest.raises(ModelError, match=r"is not known to timm .*list_models"):
        TimmEncoder(name)


def test_a_crop_that_the_backbone_cannot_take_is_refused_at_once():
    with pytest.raises(ModelError, match=r"'test_maxvit' cannot take 80 pixels: .*divisible"):
        TimmEncoder("test_maxvit", crop=80)


def test_a_backbone_that_was_looked_at_is_as_new():
    torch.manual_seed(0)
    encoder = TimmEncoder("test_resnet", crop=64)
    after = torch.rand(1)
    torch.manual_seed(0)
    plain = timm.create_model("test_resnet", num_classes=0)
    assert torch.equal(torch.rand(1), after)  # no random number was drawn before
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    for key, value in plain.state_dict().items():
        assert torch.equal(encoder.backbone.state_dict()[key], value)


def state_of(name, **options):
    torch.manual_seed(4)
    return timm.create_model(name, **options).state_dict()


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_convnext", "mobilenetv4_conv_small", "levit_128s"]
)
def test_given_weights_are_the_backbones(name):
    state = state_of(name)
    before = {key: value.clone() for key, value in state.items()}
    size = 160 if name == "test_vit" else 224
    backbone = TimmEncoder(name, crop=size, state=state).backbone
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert all(torch.equal(state[key], value) for key, value in before.items())


def test_position_embeddings_are_brought_to_the_crop_size():
    state = state_of("test_vit")  # for crops of 160 pixels
    backbone = TimmEncoder("test_vit", crop=64, state=state).backbone
    assert backbone.pos_embed.shape[1] < state["pos_embed"].shape[1]
    assert torch.equal(backbone.norm.weight, state["norm.weight"])


def test_the_classifier_may_be_absent():
    state = state_of("test_resnet")
    bare = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert torch.equal(TimmEncoder("test_resnet", crop=64, state=bare).backbone.bn1.weight,
                       state["bn1.weight"])  # fmt: skip


def test_a_missing_key_is_named():
    state = state_of("test_resnet")
    del state["layer1.0.conv1.weight"]
    with pytest.raises(ModelError, match=r"lack layer1\.0\.conv1\.weight: .*'test_resnet'"):
        TimmEncoder("test_resnet", state=state)


def test_an_unexpected_key_is_named():
    state = state_of("test_resnet") | {"layer9.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"bring unexpected layer9\.weight: .*'test_resnet'"):
        TimmEncoder("test_resnet", state=state)


def test_many_wrong_keys_are_counted():
    with pytest.raises(ModelError, match=r"lack \S+, \S+, \S+ and \d+ more: "):
        TimmEncoder("test_resnet", state=state_of("test_vit"))


def test_a_wrong_shape_is_named():
    state = state_of("test_resnet")
    state["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=r"layer1\.0\.conv1\.weight.*\[3, 3\]") as refused:
        TimmEncoder("test_resnet", state=state)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not VIT_TINY.is_file(), reason="needs the weights beside the repository")
def test_public_weights_give_the_features_of_plain_timm():
    state = load_file(VIT_TINY)
    network = QualityNetwork("vit_tiny_patch16_224", backbone_state=state).eval().double()
    plain = timm.create_model("vit_tiny_patch16_224").eval()
    plain.load_state_dict(state, strict=True)
    crops = torch.rand(2, 3, 224, 224, dtype=torch.float64)  # kernels round float32 differently
    with torch.inference_mode():
        expected = plain.double().forward_features((crops - 0.5) / 0.5)
        torch.testing.assert_close(network.encode(crops), expected, rtol=0, atol=1e-10)


# Frozen parts


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit_relpos", "test_resnet"])
def test_a_frozen_encoder_continues_from_its_frozen_features(name, crops):
    encoder = TimmEncoder(name, crop=64, width=24).eval()
    whole = encoder(crops)
    encoder.freeze()
    frozen = encoder.frozen_features(crops)
    assert frozen.shape == (2, whole.shape[1], encoder.backbone_width)
    assert torch.equal(encoder(crops), whole)
    assert torch.equal(encoder(frozen), whole)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_part_of_a_transformer_continues_from_its_frozen_features(name, blocks, crops):
    encoder = TimmEncoder(name, crop=64).eval()
    whole = encoder(crops)
    encoder.freeze(blocks)
    seen = []
    encoder.backbone.blocks[blocks - 1].register_forward_hook(lambda *a: seen.append(a[2]))
    frozen = encoder.frozen_features(crops)
    assert torch.equal(frozen, seen[0])
    torch.testing.assert_close(encoder(frozen), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder(crops), whole, rtol=1e-5, atol=1e-5)


def test_what_is_frozen_is_not_trained(crops):
    encoder = TimmEncoder("test_vit", crop=64)
    encoder.freeze(2)
    encoder.train()
    encoder(crops).square().sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.grad is not None}
    blocks = len(encoder.backbone.blocks)
    assert {name.split(".")[2] for name in trained if ".blocks." in name} == {
        str(block) for block in range(2, blocks)
    }
    others = {name.split(".")[1] for name in trained if ".blocks." not in name}
    assert others == {"norm"}
    assert not encoder.backbone.blocks[1].training
    assert encoder.backbone.blocks[2].training
    assert not encoder.backbone.patch_embed.training


def test_what_cannot_be_frozen_is_named(crops):
    with pytest.raises(ModelError, match=r"plain vision transformer .* ResNet"):
        TimmEncoder("test_resnet", crop=64).freeze(1)
    with pytest.raises(ModelError, match="has 6 blocks: 7 cannot be frozen"):
        TimmEncoder("test_vit", crop=64).freeze(7)
    with pytest.raises(ValueError, match="without a frozen part"):
        TimmEncoder("test_vit", crop=64).frozen_features(crops)
    with pytest.raises(ValueError, match="four dimensions"):
        TimmEncoder("test_vit", crop=64)(torch.rand(2, 17, 64))
