"""Semantic Noise Matching: for each crop an entry of memory whose semantics is noise to it.

The paper's two texts contradict each other, so there are two rules (docs/method.md, section 6);
s is the class token, y the label, j runs over the entries of other content:

    quality (ICML, the default):  j* = argmin_j cos(s_i, s_j)  among |y_i - y_j| <= tau,
    semantics (arXiv v1):         j* = argmax_j cos(s_i, s_j)  among |y_i - y_j| >= delta.

If no entry qualifies, the one of nearest (`quality`) or farthest (`semantics`) label stands in.
With top-k above 1 the match is drawn uniformly among the k best. Each rule is one matrix product.
Controls show what matching is worth: `like_quality` and `unlike_semantics` keep one half of
`quality`, `random` takes any entry of other content, `gaussian` adds noise as strong as what
`quality` would add. `MATCHING` names all rules.

Shapes: M entries in memory, B crops in a batch, D token width.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.method.memory_bank import MemoryBank


class Matches(NamedTuple):
    """What was found for each crop.

    Attributes:
        entries_B: (B,) index of the matched entry in memory.
        found_B: (B,) whether there was any entry of other content at all.
        fallback_B: (B,) whether none qualified, and the next best label had to stand in.
        tokens_BND: (B, 1 + N, D) the semantic noise: tokens of the matched entries.
    """

    entries_B: Tensor
    found_B: Tensor
    fallback_B: Tensor
    tokens_BND: Tensor


class MatchingRule(Protocol):
    """A rule by which each crop gets its semantic noise from the memory bank."""

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
            tau: largest difference of labels of like quality, in standard units.
            delta: smallest difference of labels of unlike quality, in the same units.
            top_k: draw among this many best.
            generator: on the CPU, for what is drawn.
        """


@torch.no_grad()
def match_quality(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    tau: float = 0.25, top_k: int = 1, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with the semantically farthest entry of like quality."""
    cosine_BM, gap_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)
    near_BM = other_BM & (gap_BM <= tau)
    return _choose(memory, -cosine_BM, near_BM, -gap_BM, other_BM, top_k, generator)


@torch.no_grad()
def match_semantics(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    delta: float = 1.0, top_k: int = 1, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with the semantically nearest entry of unlike quality."""
    cosine_BM, gap_BM, other_BM = _compare(semantics_BD, labels_B, contents_B, memory)
    far_BM = other_BM & (gap_BM >= delta)
    return _choose(memory, cosine_BM, far_BM, gap_BM, other_BM, top_k, generator)


@torch.no_grad()
def match_random(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with an entry of other content drawn uniformly."""
    other_BM = contents_B[:, None] != memory.contents_M[None, :]
    lots_BM = torch.rand(other_BM.shape, generator=generator).to(other_BM.device)
    return _choose(memory, lots_BM, other_BM, lots_BM, other_BM, 1, generator)


@torch.no_grad()
def match_like_quality(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank, *,
    tau: float = 0.25, generator: torch.Generator | None = None, **_: object,
) -> Matches:  # fmt: skip
    """Matches each crop with an entry of like quality drawn uniformly, whatever its semantics."""
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
    """Replaces what `match_quality` finds by Gaussian noise of the same norm."""
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
"""The rules by the names that recipes call them."""


def gaussian_like(matched_BND: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise with the norm of each matched token: the control without any semantics.

    Args:
        matched_BND: matched tokens (B, 1 + N, D).
        generator: on the CPU.
    """
    noise_BND = torch.randn(matched_BND.shape, generator=generator).to(matched_BND.device)
    norm_BN1: Tensor = torch.linalg.vector_norm(matched_BND.float(), dim=-1, keepdim=True)
    return functional.normalize(noise_BND, dim=-1) * norm_BN1


def _compare(
    semantics_BD: Tensor, labels_B: Tensor, contents_B: Tensor, memory: MemoryBank
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines, label gaps, and whether the content is another, of crops with entries."""
    dtype = torch.promote_types(semantics_BD.dtype, torch.float32)
    own_BD = functional.normalize(semantics_BD.to(dtype), dim=1)
    memory_MD = functional.normalize(memory.tokens_MND[:, 0].to(dtype), dim=1)
    # Cosines rounded to bfloat16 would tie, and the oldest of those tied would win.
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
    """The most preferred eligible entry, or one of the k most; else the fallback."""
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
