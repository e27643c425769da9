"""Low-rank adapters: trained through peft's layers, merged into the plain network's weights."""

import pytest
import torch

from qfm_iqm.errors import ModelError
from qfm_iqm.model.adapters import add_adapters, merged
from qfm_iqm.model.backbone import TimmEncoder
from qfm_iqm.model.folder import load_model, save_model

pytest.importorskip("peft")


def adapted(name="test_vit", rank=3, *, frozen=None, trained=True):
    """An encoder with adapters, as after some training if `trained`."""
    torch.manual_seed(4)
    encoder = TimmEncoder(name, crop=48)
    if frozen is not None:
        encoder.freeze(frozen)
    add_adapters(encoder.backbone, rank)
    if trained:
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    return encoder.double().eval()


def test_untrained_adapters_change_nothing():
    torch.manual_seed(4)
    plain = TimmEncoder("test_vit", crop=48).double().eval()
    crops = torch.rand(2, 3, 48, 48, dtype=torch.float64)
    assert torch.equal(adapted(trained=False)(crops), plain(crops))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_merged_weights_give_the_same_tokens(name):
    encoder = adapted(name)
    plain = TimmEncoder(name, crop=48).double().eval()
    crops = torch.rand(2, 3, 48, 48, dtype=torch.float64)
    assert not torch.allclose(plain(crops), encoder(crops), atol=1e-2)
    plain.load_state_dict(merged(encoder.state_dict()), strict=True)
    torch.testing.assert_close(plain(crops), encoder(crops), rtol=1e-9, atol=1e-9)


def test_only_adapters_and_norms_are_trained():
    encoder = adapted(rank=2)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    vit = encoder.backbone
    linear = {n for n, m in vit.named_modules() if hasattr(m, "lora_A")}
    assert linear == {
        f"blocks.{i}.{layer}"
        for i in range(len(vit.blocks))
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    norms = {f"blocks.{i}.norm{k}" for i in range(len(vit.blocks)) for k in (1, 2)} | {"norm"}
    assert trained == {
        *(f"backbone.{n}.lora_{k}.default.weight" for n in linear for k in "AB"),
        *(f"backbone.{n}.{what}" for n in norms for what in ("weight", "bias")),
    }
    layer = vit.blocks[0].mlp.fc1
    assert layer.lora_A["default"].weight.shape == (2, layer.base_layer.in_features)


def test_frozen_blocks_get_no_adapters():
    encoder = adapted(frozen=2)
    blocks = {int(n.split(".")[1]) for n, m in encoder.backbone.named_modules() if "lora_A" in n}
    assert blocks == set(range(2, len(encoder.backbone.blocks)))
    names = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert not any(".blocks.0." in name or ".blocks.1." in name for name in names)


def test_a_state_without_adapters_is_left_alone(build_model):
    state = build_model().network.state_dict()
    plain = merged(state)
    assert list(plain) == list(state)
    assert all(torch.equal(plain[key], state[key]) for key in state)


def test_a_saved_model_is_a_plain_one(build_model, tmp_path):
    model = build_model()
    add_adapters(model.network.encoder.backbone, 4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    save_model(model, tmp_path / "model")
    crops = torch.rand(3, 3, 48, 48)
    with torch.inference_mode():
        found = load_model(tmp_path / "model").network(crops)
        torch.testing.assert_close(found, model.eval().network(crops), rtol=0, atol=1e-4)


def test_a_backbone_without_linear_layers_is_refused():
    with pytest.raises(ModelError, match=r"ResNet has no linear layer .* backbone\.tune"):
        add_adapters(TimmEncoder("test_resnet", crop=48).backbone, 4)
