"""Quality Consistency Constraint: the same answer with another image's semantics added.

    F~_i = F_i + alpha * sg(F_j*)          the perturbed decoder input
    L_qcc = mean_i smoothL1(D(F~_i), sg(D(F_i)))

(METHOD section 7.) Only the decoder runs a second time. A crop for which no entry of other
content exists keeps its own features.

Shapes: B crops, N patch tokens, D token width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def perturb(tokens_BND: Tensor, matched_BND: Tensor, found_B: Tensor, *, alpha: float) -> Tensor:
    """Adds matched features to a crop's own.

    Args:
        tokens_BND: tokens (B, 1 + N, D) of the crops.
        matched_BND: tokens of their matches; no gradient flows into them.
        found_B: where False, the crop has no match and stays as it is.
        alpha: weight of what is added.
    """
    weight_B11 = alpha * found_B.to(tokens_BND.dtype)[:, None, None]
    return tokens_BND + weight_B11 * matched_BND.detach().to(tokens_BND.dtype)


def consistency(perturbed_B: Tensor, own_B: Tensor) -> Tensor:
    """L_qcc: what the added features changed in the answers, in standard units."""
    return functional.smooth_l1_loss(perturbed_B, own_B.detach())
