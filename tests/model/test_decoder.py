import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from qfm_iqm.errors import ModelError
from qfm_iqm.model.decoder import AttentionPanelDecoder


def normalized(x, weight, bias):
    return np.stack([(row - row.mean()) / np.sqrt(row.var() + 1e-5) * weight + bias for row in x])


def attention(queries, keys, in_weight, in_bias, out_weight, out_bias, heads):
    """Scaled dot-product attention, query by query and head by head."""
    width = queries.shape[1]
    parts = [slice(i * width, (i + 1) * width) for i in range(3)]
    q, k, v = (
        source @ in_weight[part].T + in_bias[part]
        for source, part in zip((queries, keys, keys), parts, strict=True)
    )
    size = width // heads
    joined = np.empty_like(q)
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        for i in range(len(q)):
            logits = [float(q[i, mine] @ k[j, mine]) / math.sqrt(size) for j in range(len(k))]
            weights = np.exp(np.array(logits) - max(logits))
            weights /= weights.sum()
            joined[i, mine] = sum(w * v[j, mine] for j, w in enumerate(weights))
    return joined @ out_weight.T + out_bias


def reference(decoder, tokens, heads):
    """The decoder written out from docs/method.md, section 3, one image at a time, in float64."""
    p = {key: value.detach().double().numpy() for key, value in decoder.state_dict().items()}

    def attend(name, queries, keys):
        keys_of = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        return attention(queries, keys, *(p[f"layer.{name}.{key}"] for key in keys_of), heads)

    def norm(number, x):
        return normalized(x, p[f"layer.norm{number}.weight"], p[f"layer.norm{number}.bias"])

    qualities = []
    for class_token, *patches in tokens.double().numpy():
        x = p["panel"][0] + class_token
        x = x + attend("self_attn", norm(1, x), norm(1, x))
        x = x + attend("multihead_attn", norm(2, x), np.array(patches))
        hidden = norm(3, x) @ p["layer.linear1.weight"].T + p["layer.linear1.bias"]
        hidden = 0.5 * hidden * (1 + erf(hidden / math.sqrt(2)))  # GELU, exact
        x = x + hidden @ p["layer.linear2.weight"].T + p["layer.linear2.bias"]
        qualities.append(np.mean(x @ p["head.weight"][0]))
    return np.array(qualities)


def randomised(width, **options):
    """A decoder in which no bias is zero and no norm is one, so that each of them counts."""
    torch.manual_seed(1)
    decoder = AttentionPanelDecoder(width, **options)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return decoder


@pytest.mark.parametrize(
    ("width", "heads", "panel", "patches"), [(24, 3, 6, 7), (8, 1, 1, 1), (16, 4, 3, 5)]
)
@pytest.mark.parametrize("training", [False, True])
def test_the_arithmetic_is_that_of_slow_loops(width, heads, panel, patches, training):
    decoder = randomised(width, heads=heads, panel=panel).double().train(training)
    tokens = torch.randn(3, 1 + patches, width, dtype=torch.float64)
    with torch.no_grad():
        ours = decoder(tokens).numpy()
    np.testing.assert_allclose(ours, reference(decoder, tokens, heads), rtol=1e-10)


def test_single_precision_stays_close_to_double():
    decoder = randomised(64).eval()
    tokens = torch.randn(4, 17, 64)
    with torch.inference_mode():
        single = decoder(tokens).numpy()
    np.testing.assert_allclose(single, reference(decoder, tokens, heads=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (192, 3), (64, 1), (48, 1), (100, 1)])
def test_one_head_per_64_channels(width, heads):
    assert AttentionPanelDecoder(width).layer.self_attn.num_heads == heads


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ModelError, match="5 heads do not divide its width of 64"):
        AttentionPanelDecoder(64, heads=5)


def test_parameters_are_those_of_the_papers_layer():
    # By hand, D = 384: two attentions, FFN 4D, three norms, panel of six, bias-free head.
    D = 384
    attention_ = 4 * (D * D + D)
    expected = 2 * attention_ + (8 * D * D + 5 * D) + 3 * 2 * D + 6 * D + D
    decoder = AttentionPanelDecoder(D)
    assert sum(p.numel() for p in decoder.parameters()) == expected
    assert decoder.head.bias is None
    assert decoder.panel.shape == (1, 6, D)
    assert decoder.panel.std().item() == pytest.approx(0.02, rel=0.1)


def test_images_and_the_order_of_their_patches_do_not_matter():
    decoder = randomised(32).double().eval()
    tokens = torch.randn(5, 10, 32, dtype=torch.float64)
    scores = decoder(tokens)
    shuffled = torch.cat([tokens[:, :1], tokens[:, 1:][:, torch.randperm(9)]], 1)
    torch.testing.assert_close(decoder(shuffled), scores)
    torch.testing.assert_close(torch.cat([decoder(t[None]) for t in tokens]), scores)
