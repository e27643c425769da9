"""The variants of the experiment: the noise they add to tokens (docs/confounding.md).

The rules are those of `method.matching`. The oracle is `like_quality` with clusters as contents, so
that a match of other content is from the other cluster.

Shapes: B crops, N patch tokens, D token width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.method.consistency import perturb


@dataclass(frozen=True)
class Variant:
    """A variant of training.

    Attributes:
        matching: rule in `method.matching.MATCHING`; None adds nothing.
        target: target of the perturbed prediction.
        other_cluster: matches must be from the other cluster, not only from another photo.
        keep_statistics: restore each channel's mean and standard deviation over the patches.
        balanced: draw all groups of cluster and side equally often.
        erased: remove from tokens what distinguishes the clusters at equal quality.
        further: tried after the verdict; only in settings that request it.
    """

    matching: str | None = None
    target: Literal["own", "label"] = "label"
    other_cluster: bool = False
    keep_statistics: bool = False
    balanced: bool = False
    erased: bool = False
    further: bool = False


VARIANTS = {
    "none": Variant(),
    "balanced": Variant(balanced=True),
    "gaussian": Variant("gaussian"),
    "random": Variant("random"),
    "like_quality": Variant("like_quality"),
    "unlike_semantics": Variant("unlike_semantics"),
    "qfm": Variant("quality"),
    "semantics": Variant("semantics"),
    "oracle": Variant("like_quality", other_cluster=True),
    "content_swap": Variant("random", keep_statistics=True),
    "random_own": Variant("random", target="own"),
    "qfm_own": Variant("quality", target="own"),
    "oracle_own": Variant("like_quality", target="own", other_cluster=True),
    "balanced_random": Variant("random", balanced=True, further=True),
    "balanced_qfm": Variant("quality", balanced=True, further=True),
    "erased": Variant(erased=True, further=True),
    "erased_balanced": Variant(erased=True, balanced=True, further=True),
}
"""The variants by name, in the order in which they run."""


def add(
    tokens_BND: Tensor,
    noise_BND: Tensor,
    found_B: Tensor,
    *,
    alpha: float,
    keep_statistics: bool = False,
) -> Tensor:
    """Adds noise to tokens at a norm relative to theirs, and restores norms or statistics.

    Args:
        tokens_BND: tokens (B, 1 + N, D), class token first.
        noise_BND: noise; each of its tokens is first scaled to the norm of the crop's token.
        found_B: whether to add noise to a crop.
        alpha: weight of the noise.
        keep_statistics: restore the patches' mean and standard deviation per channel; otherwise,
            and always for the class token, restore the norms.
    """
    norm_BN1 = tokens_BND.norm(dim=-1, keepdim=True)
    scaled_BND = functional.normalize(noise_BND.to(tokens_BND.dtype), dim=-1) * norm_BN1
    added_BND = perturb(
        tokens_BND, scaled_BND, found_B, alpha=alpha, renormalize=not keep_statistics
    )
    if not keep_statistics:
        return added_BND
    class_B1D, patches_BND = added_BND[:, :1], added_BND[:, 1:]
    own_BND = tokens_BND[:, 1:]
    centered_BND = patches_BND - patches_BND.mean(1, keepdim=True)
    scale_B1D = _deviation(own_BND) / _deviation(patches_BND).clamp_min(1e-6)
    restored_BND = centered_BND * scale_B1D + own_BND.mean(1, keepdim=True)
    return torch.cat([functional.normalize(class_B1D, dim=-1) * norm_BN1[:, :1], restored_BND], 1)


def _deviation(tokens_BND: Tensor) -> Tensor:
    return tokens_BND.std(1, keepdim=True, correction=0)
