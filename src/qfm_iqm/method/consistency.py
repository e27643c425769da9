"""Quality Consistency Constraint: added semantics of another image must not change a prediction.

    F~_i = F_i + alpha * sg(F_j*)          the perturbed decoder input
    L_qcc = mean_i smoothL1(D(F~_i), target_i),   target = sg(D(F_i)) by default

See docs/method.md, section 7. Only the decoder runs a second time. A crop without an entry of other
content in memory keeps its own features.

Shapes: B crops, N patch tokens, D token width.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def perturb(
    tokens_BND: Tensor,
    matched_BND: Tensor,
    found_B: Tensor,
    *,
    alpha: float,
    tokens: Literal["all", "patches", "class"] = "all",
    renormalize: bool = False,
) -> Tensor:
    """Adds matched features to a crop's own.

    Args:
        tokens_BND: tokens (B, 1 + N, D) of the crops.
        matched_BND: tokens of their matches; no gradient flows into them.
        found_B: whether a crop has a match; without one it is left unchanged.
        alpha: weight of the matched tokens.
        tokens: tokens that are perturbed.
        renormalize: rescale each perturbed token to its original norm.
    """
    weight_BN1 = alpha * found_B.to(tokens_BND.dtype)[:, None, None].repeat(
        1, tokens_BND.shape[1], 1
    )
    if tokens == "patches":
        weight_BN1[:, :1] = 0
    elif tokens == "class":
        weight_BN1[:, 1:] = 0
    perturbed_BND = tokens_BND + weight_BN1 * matched_BND.detach().to(tokens_BND.dtype)
    if not renormalize:
        return perturbed_BND
    norm_BN1 = tokens_BND.norm(dim=-1, keepdim=True)
    return torch.where(
        weight_BN1 > 0, functional.normalize(perturbed_BND, dim=-1) * norm_BN1, perturbed_BND
    )


def consistency(
    perturbed_B: Tensor,
    own_B: Tensor,
    labels_B: Tensor,
    *,
    target: Literal["own", "own_gradient", "label"] = "own",
) -> Tensor:
    """L_qcc: the change of the predictions by the added features, in standard units.

    Args:
        perturbed_B: predictions (B,) for the perturbed tokens.
        own_B: predictions (B,) for the original tokens.
        labels_B: labels or pseudo-labels, for the target "label".
        target: target of the perturbed prediction; see `MethodConfig`.
    """
    targets_B = {"own": own_B.detach(), "own_gradient": own_B, "label": labels_B}[target]
    return functional.smooth_l1_loss(perturbed_B, targets_B)
