"""What each variant of the experiment adds to a photo's tokens (docs/confounding.md).

The rules are those of `method.matching`. The oracle is `like_quality` with clusters in the place of
contents: what is of other content is then of the other cluster.

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
        target: of the perturbed prediction.
        other_cluster: matches must be of the other cluster, not merely of another photo.
        keep_statistics: each channel gets back its mean and deviation over the own patches.
        balanced: draws the groups of cluster and side equally often.
        erased: what tells the clusters apart at equal quality is taken out of the tokens.
        further: tried after the verdict; settings have it only if they ask for it.
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
    """Adds noise to tokens at the same norm whatever it is, and brings the sum back.

    Args:
        tokens_BND: tokens (B, 1 + N, D), class token first.
        noise_BND: what is added; each token of it is first scaled to the norm of the own one.
        found_B: where False, nothing is added.
        alpha: weight of what is added.
        keep_statistics: patches get back their mean and deviation per channel; else, as the class
            token always, their norms.
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
