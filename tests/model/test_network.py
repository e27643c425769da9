"""One set of tests that every architecture must pass."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfm_iqm.errors import ModelError
from qfm_iqm.model.card import NetworkConfig
from qfm_iqm.model.folder import load_model, save_model
from qfm_iqm.model.network import LabelScale, QualityNetwork

ARCHITECTURES = {
    "test_vit": {},
    "test_vit2": {},
    "test_vit_relpos": {},
    "test_convnext": {},
    "test_coatnet": {},
    "test_maxvit": {},
    "test_resnet": {},
    "test_efficientnet": {},
    "test_byobnet": {},
    "test_nfnet": {},
    "test_mambaout": {},
    "levit_128s": {"width": 64},
    "mobilenetv4_conv_small": {"width": 64},
}
CROP = 128  # the smallest with several tokens in LeViT's last stage


@pytest.fixture(params=ARCHITECTURES, scope="module")
def model(request, build_model):
    """A network in which no parameter is zero: a block that starts at zero passes no gradient."""
    built = build_model(request.param, crop=CROP, **ARCHITECTURES[request.param])
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in built.network.encoder.backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    # Running statistics for these weights, from one batch.
    for module in built.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        built.network.train().encode(torch.rand(4, 3, CROP, CROP))
    return built.eval()


@pytest.fixture
def crops():
    return torch.rand(3, 3, CROP, CROP, generator=torch.Generator().manual_seed(5))


def test_forward(model, crops):
    with torch.inference_mode():
        tokens = model.network.encode(crops)
        scores = model.network(crops)
        assert tokens.ndim == 3
        assert tokens.shape[0] == 3
        assert tokens.shape[1] > 2
        assert tokens.shape[2] == model.network.encoder.width
        assert scores.shape == (3,)
        assert scores.isfinite().all()
        assert torch.equal(model.network.decode(tokens), scores)
        assert len({round(score, 4) for score in scores.tolist()}) == 3  # they depend on the image
        alone = torch.cat([model.network(crop[None]) for crop in crops])
    assert (alone - scores).abs().max() < 1e-5 * model.network.scale.std


@pytest.mark.parametrize("training", [False, True])
def test_backward_reaches_every_parameter(model, crops, training):
    network = copy.deepcopy(model.network).train(training)
    network(crops).square().sum().backward()
    untouched = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # The bias of a convolution cancels in the batch normalization that follows it in training.
    assert [name for name in untouched if not (training and name.endswith("bias"))] == []


def test_scoring_first_leaves_gradients_and_new_weights_their_effect(model, crops):
    network = copy.deepcopy(model.network)
    with torch.inference_mode():
        before = network(crops)
    network(crops).sum().backward()  # in evaluation, after inference mode
    network(crops).sum().backward()  # and again
    assert all(parameter.grad is not None for parameter in network.parameters())
    state = {key: value * 1.1 for key, value in network.state_dict().items()
             if value.is_floating_point()}  # fmt: skip
    network.load_state_dict(state, strict=False)
    fresh = copy.deepcopy(model.network)
    fresh.load_state_dict(state, strict=False)
    with torch.inference_mode():
        assert torch.equal(network(crops), fresh(crops))
        assert not torch.equal(network(crops), before)


def test_any_image_size(model):
    with torch.inference_mode():
        for size in [(1, 1), (CROP - 1, CROP + 1), (37, 301)]:
            scores = model(torch.rand(2, 3, *size))
            assert scores.shape == (2,)
            assert scores.isfinite().all()


def test_saved_and_loaded_its_weights_are_bit_identical(model, crops, tmp_path):
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    saved = model.network.state_dict()
    assert loaded.network.state_dict().keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.network.state_dict().items())
    with torch.inference_mode():
        # Equal weights at other addresses: some processors' MKL sums in another order.
        torch.testing.assert_close(loaded.network(crops), model.network(crops), rtol=1e-6, atol=0)


def test_half_precision_on_disk_is_close(model, crops, tmp_path):
    save_model(model, tmp_path / "half", dtype=torch.float16)
    save_model(model, tmp_path / "full")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_model(tmp_path / "half")
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    with torch.inference_mode():
        difference = loaded.network(crops) - model.network(crops)
    assert difference.abs().max() < 0.05 * model.network.scale.std


def test_as_a_loss_it_raises_the_score_of_an_image(model):
    image = torch.rand(1, 3, 100, 150, generator=torch.Generator().manual_seed(1))
    image.requires_grad_()
    first = model(image)
    score = first
    for _ in range(4):
        (gradient,) = torch.autograd.grad(score.sum(), image)
        assert gradient.isfinite().all()
        assert (gradient != 0).float().mean() > 0.9  # the crops cover the image
        with torch.no_grad():
            image += 0.002 * gradient.sign()
        score = model(image)
    assert score.item() > first.item()


def test_the_papers_network_has_24_04_million_parameters():
    with torch.device("meta"):
        network = QualityNetwork("deit3_small_patch16_224")
    # Qin et al., AAAI 2023, Table 1: DEIQT 24.04 M; docs/method.md, section 3.
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 24.04
    assert network.decoder.layer.self_attn.num_heads == 6


def test_scores_come_in_label_units():
    torch.manual_seed(0)
    network = QualityNetwork("test_vit", crop=64, label_mean=70.0, label_std=4.0).eval()
    tokens = torch.randn(3, 17, 64)
    torch.testing.assert_close(network.decode(tokens), network.decoder(tokens) * 4 + 70)


def test_the_config_rebuilds_the_network():
    network = QualityNetwork("test_resnet", crop=64, width=32, heads=4, panel=3)
    again = QualityNetwork(**network.config.model_dump())
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (network, again)]
    assert shapes[0] == shapes[1]


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ModelError, match=r"network\.width and network\.heads"):
        QualityNetwork("test_vit", crop=64, heads=5)


@pytest.mark.parametrize(
    "wrong", [{"crop": 8}, {"width": 0}, {"heads": 1.5}, {"panel": 0}, {"depth": 2}]
)
def test_impossible_configs_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        NetworkConfig(backbone="test_vit", **wrong)


# ---- the scale of labels ----


def test_units_are_those_of_scipy_like_z_scores():
    labels = np.random.default_rng(0).normal(60, 12, 50)
    scale = LabelScale(labels.mean(), labels.std())
    standard = scale.to_standard(torch.tensor(labels)).numpy()
    np.testing.assert_allclose(standard, (labels - labels.mean()) / labels.std(), atol=1e-6)
    assert scale.to_units(torch.tensor([0.0, 1.0])).tolist() == pytest.approx(
        [labels.mean(), labels.mean() + labels.std()]
    )


@given(mean=st.floats(-1e3, 1e3), std=st.floats(1e-2, 1e3), z=st.floats(-5, 5))
def test_there_and_back(mean, std, z):
    scale = LabelScale(mean, std).double()
    back = scale.to_standard(scale.to_units(torch.tensor([z], dtype=torch.float64)))
    assert back.item() == pytest.approx(z, abs=1e-6)


def test_the_scale_travels_with_the_weights_and_is_not_learned():
    scale = LabelScale(3.5, 0.25)
    assert not list(scale.parameters())
    other = LabelScale()
    other.load_state_dict(scale.state_dict())
    assert (other.mean.item(), other.std.item()) == (3.5, 0.25)
