"""Semantic Noise Matching: for each crop, an entry of like quality and unlike content.

Rule `quality` (the ICML text; METHOD section 6): among the entries j of other content with
|y_i - y_j| <= tau, the semantically farthest,

    j*(i) = argmin_j cos(s_i, s_j),

s the class token. If none is that near, the entry of other content with the nearest label.
What the matched entry adds is then mostly semantics: noise for quality.

Shapes: M entries in memory, B crops in a batch, D token width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.method.memory import FeatureMemory


class Matches(NamedTuple):
    """What was found for each crop.

    Attributes:
        entries_B: (B,) index of the matched entry in memory.
        found_B: (B,) whether there was any entry of other content at all.
        fallback_B: (B,) whether the nearest label had to stand in: none was within tau.
    """

    entries_B: Tensor
    found_B: Tensor
    fallback_B: Tensor


@torch.no_grad()
def match_quality(
    semantics_BD: Tensor,
    labels_B: Tensor,
    contents_B: Tensor,
    memory: FeatureMemory,
    *,
    tau: float = 0.25,
) -> Matches:
    """Matches each crop with the semantically farthest entry of like quality.

    Args:
        semantics_BD: class tokens (B, D).
        labels_B: labels (B,) in standard units.
        contents_B: content ids (B,).
        memory: the entries to choose from.
        tau: largest difference of labels, in standard units.
    """
    memory_MD = memory.tokens_MND[:, 0].to(semantics_BD.dtype)
    cosine_BM = functional.normalize(semantics_BD, dim=1) @ functional.normalize(memory_MD, dim=1).T
    gap_BM = (labels_B[:, None] - memory.labels_M[None, :]).abs()
    other_BM = contents_B[:, None] != memory.contents_M[None, :]
    near_BM = other_BM & (gap_BM <= tau)
    farthest_B = cosine_BM.masked_fill(~near_BM, torch.inf).argmin(1)
    nearest_B = gap_BM.masked_fill(~other_BM, torch.inf).argmin(1)
    has_near_B, has_other_B = near_BM.any(1), other_BM.any(1)
    return Matches(
        entries_B=torch.where(has_near_B, farthest_B, nearest_B),
        found_B=has_other_B,
        fallback_B=has_other_B & ~has_near_B,
    )
