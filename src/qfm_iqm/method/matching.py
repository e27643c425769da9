"""Semantic Noise Matching: chooses, for each crop, a memory entry as semantic noise.

The two versions of the paper contradict each other, so there are two rules (docs/method.md,
section 6). s is the class token, y the label, and j runs over the entries of other content:

    quality (ICML, the default):  j* = argmin_j cos(s_i, s_j)  among |y_i - y_j| <= tau,
    semantics (arXiv v1):         j* = argmax_j cos(s_i, s_j)  among |y_i - y_j| >= delta.

If no entry qualifies, the entry with the nearest (`quality`) or farthest (`semantics`) label is
used. With top-k above 1 the match is drawn uniformly from the k best. Each rule is one matrix
product. Controls measure the effect of matching: `like_quality` and `unlike_semantics` keep one
half of `quality`, `random` takes any entry of other content, and `gaussian` adds noise with the
norm of the `quality` match. `MATCHING` lists all rules.

Shapes: M entries in memory, B crops in a batch, D token width.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.method.memory_bank import MemoryBank


class Matches(NamedTuple):
    """The match of each crop.

    Attributes:
        entries_B: (B,) index of the matched entry in memory.
        found_B: (B,) whether memory held any entry of other content.
        fallback_B: (B,) whether no entry qualified and the fallback was used.
        tokens_BND: (B, 1 + N, D) the semantic noise: tokens of the matched entries.
    """

    entries_B: Tensor
    found_B: Tensor
    fallback_B: Tensor
    tokens_BND: Tensor


class MatchingRule(Protocol):
    """A rule that chooses each crop's semantic noise from the memory bank."""

    def __call__(
        self,
        semantics_BD: Tensor,
        labels_B: Tensor,
        contents_B: Tensor,
        memory: MemoryBank,
        *,
        tau: float = 0.25,
        delta: float = 1.0,
        top_k: int = 1,
        generator: torch.Generator | None = None,
    ) -> Matches:
        """Matches each crop with an entry of other content.

        Args:
            semantics_BD: class tokens (B, D).
            labels_B: labels (B,) in standard units.
            contents_B: content ids (B,).
            memory: the entries to choose from.
            tau: largest label difference for similar quality, in standard units.
            delta: smallest label difference for dissimilar quality, in the same units.
            top_k: number of best entries to draw from.
            generator: CPU generator for the random draws.
        """


@torch.no_grad()
def match_quality(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    tau: float = 0.25, top_k: int = 1, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with the semantically farthest entry of similar quality."""
    cosine_BM, gap_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)
    near_BM = other_BM & (gap_BM <= tau)
    return _choose(memory, -cosine_BM, near_BM, -gap_BM, other_BM, top_k, generator)


@torch.no_grad()
def match_semantics(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    delta: float = 1.0, top_k: int = 1, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with the semantically nearest entry of dissimilar quality."""
    cosine_BM, gap_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)
    far_BM = other_BM & (gap_BM >= delta)
    return _choose(memory, cosine_BM, far_BM, gap_BM, other_BM, top_k, generator)


@torch.no_grad()
def match_random(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with a uniformly drawn entry of other content."""
    other_BM = contents_B[:, None] != memory.contents_M[None, :]
    lots_BM = torch.rand(other_BM.shape, generator=generator).to(other_BM.device)
    return _choose(memory, lots_BM, other_BM, lots_BM, other_BM, 1, generator)


@torch.no_grad()
def match_like_quality(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    tau: float = 0.25, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with a uniformly drawn entry of similar quality and any semantics."""
    gap_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)[1:]
    lots_BM = torch.rand(other_BM.shape, generator=generator).to(other_BM.device)
    return _choose(memory, lots_BM, other_BM & (gap_BM <= tau), -gap_BM, other_BM, 1, generator)


@torch.no_grad()
def match_unlike_semantics(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    top_k: int = 1, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with the semantically farthest entry, whatever its quality."""
    cosine_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)[::2]
    return _choose(memory, -cosine_BM, other_BM, -cosine_BM, other_BM, top_k, generator)


@torch.no_grad()
def match_gaussian(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    generator: torch.Generator | None = None, **options: Any,
) -> Matches:  # fmt: skip
    """Replaces the tokens of `match_quality` with Gaussian noise of the same norm."""
    matches = match_quality(
        semantics_BD, labels_B, contents_B, memory, generator=generator, **options
    )
    return matches._replace(tokens_BND=gaussian_like(matches.tokens_BND, generator=generator))


MATCHING: dict[str, MatchingRule] = {
    "quality": match_quality,
    "semantics": match_semantics,
    "random": match_random,
    "like_quality": match_like_quality,
    "unlike_semantics": match_unlike_semantics,
    "gaussian": match_gaussian,
}
"""The rules by their names in recipes."""


def gaussian_like(matched_BND: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise with the norm of each matched token: a control without semantics.

    Args:
        matched_BND: matched tokens (B, 1 + N, D).
        generator: CPU generator for the noise.
    """
    noise_BND = torch.randn(matched_BND.shape, generator=generator).to(matched_BND.device)
    norm_BN1: Tensor = torch.linalg.vector_norm(matched_BND.float(), dim=-1, keepdim=True)
    return functional.normalize(noise_BND, dim=-1) * norm_BN1


def _compare(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine, label gap and "is other content" (B, M) between crops and entries."""
    dtype = torch.promote_types(semantics_BD.dtype, torch.float32)
    own_BD = functional.normalize(semantics_BD.to(dtype), dim=1)
    memory_MD = functional.normalize(memory.tokens_MND[:, 0].to(dtype), dim=1)
    # Cosines in bfloat16 would tie, and ties always pick the entry with the lowest index.
    with torch.autocast(own_BD.device.type, enabled=False):
        cosine_BM = own_BD @ memory_MD.T
    gap_BM = (labels_B[:, None] - memory.labels_M[None, :]).abs()
    other_BM = contents_B[:, None] != memory.contents_M[None, :]
    return cosine_BM, gap_BM, other_BM


def _choose(
    memory: MemoryBank,
    preference_BM: Tensor,
    eligible_BM: Tensor,
    fallback_preference_BM: Tensor,
    other_BM: Tensor,
    top_k: int,
    generator: torch.Generator | None,
) -> Matches:
    """The eligible entry of highest preference, or one of the k highest; else the fallback."""
    has_eligible_B, has_other_B = eligible_BM.any(1), other_BM.any(1)
    ranked_BM = preference_BM.masked_fill(~eligible_BM, -torch.inf)
    if top_k == 1:
        best_B = ranked_BM.argmax(1)
    else:
        best_BK = ranked_BM.topk(min(top_k, ranked_BM.shape[1]), dim=1).indices
        choices_B = eligible_BM.sum(1).clamp(1, best_BK.shape[1])
        lots_B = torch.rand(len(best_BK), generator=generator).to(choices_B.device)
        best_B = best_BK.gather(1, (lots_B * choices_B).long()[:, None]).squeeze(1)
    fallback_B = fallback_preference_BM.masked_fill(~other_BM, -torch.inf).argmax(1)
    entries_B = torch.where(has_eligible_B, best_B, fallback_B)
    return Matches(
        entries_B=entries_B,
        found_B=has_other_B,
        fallback_B=has_other_B & ~has_eligible_B,
        tokens_BND=memory.tokens_MND[entries_B],
    )
