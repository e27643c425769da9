"""Every rule adds the same norm; the oracle's match comes from the other cluster."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from confounded.rules import VARIANTS, add
from qfm_iqm.method.matching import MATCHING
from qfm_iqm.method.memory_bank import MemoryBank

B, N, D = 6, 9, 8


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [name for name, v in VARIANTS.items() if v.matching])
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 1.0, 50.0]))
def test_all_variants_add_alike_much(name, seed, scale):
    tokens, memory = drawn(seed, B, 1 + N, D), MemoryBank(20)
    memory.push(scale * drawn(seed + 1, 20, 1 + N, D), drawn(seed + 2, 20), torch.arange(20) % 5)
    variant = VARIANTS[name]
    matches = MATCHING[variant.matching](
        tokens[:, 0], drawn(seed + 3, B), torch.arange(B), memory,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    added = add(tokens, matches.tokens_BND, matches.found_B, alpha=0.5,
                keep_statistics=variant.keep_statistics)  # fmt: skip
    own = tokens.norm(dim=-1)
    # Whatever the matched tokens' norm: before rescaling, the sum is alpha norms away.
    plain = torch.nn.functional.normalize(matches.tokens_BND.float(), dim=-1) * own[..., None]
    moved = tokens + 0.5 * plain
    assert torch.allclose((moved - tokens).norm(dim=-1), 0.5 * own, atol=1e-4)
    if not variant.keep_statistics:
        expected = moved * (own / moved.norm(dim=-1))[..., None]
        assert torch.allclose(added, expected, atol=1e-3)
        assert torch.allclose(added.norm(dim=-1), own, atol=1e-4)
        return
    assert torch.allclose(added[:, 0].norm(dim=-1), own[:, 0], atol=1e-4)
    for statistic in (torch.mean, torch.std):
        assert torch.allclose(statistic(added[:, 1:], 1), statistic(tokens[:, 1:], 1), atol=1e-3)
    assert not torch.allclose(added, tokens, atol=1e-2)


def test_without_a_match_tokens_stay():
    tokens = drawn(0, 2, 1 + N, D)
    found = torch.tensor([True, False])
    added = add(tokens, drawn(1, 2, 1 + N, D), found, alpha=1.0)
    assert torch.equal(added[1], tokens[1])
    assert not torch.allclose(added[0], tokens[0])


def test_the_oracle_takes_like_quality_of_the_other_cluster():
    labels, clusters = torch.arange(20) / 10, torch.arange(20) % 2
    memory = MemoryBank(20)
    memory.push(drawn(0, 20, 2, D), labels, clusters)
    rule = MATCHING[VARIANTS["oracle"].matching]
    asked = torch.tensor([1.0, 1.0])
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        matches = rule(drawn(1, 2, D), asked, torch.tensor([0, 1]), memory, tau=0.25,
                       generator=generator)  # fmt: skip
        assert clusters[matches.entries_B].tolist() == [1, 0]
        assert ((labels[matches.entries_B] - asked).abs() <= 0.25 + 1e-6).all()
