"""Convolutions with the following batch norm frozen and folded in.

Fine-tuning on small batches keeps the batch statistics of pretraining. A batch norm in evaluation
mode is a fixed affine map, so it can be folded into the convolution before it: the same function in
less time. Its scale remains a constant factor of the weights, so that an optimizer takes the same
steps as with the norm.
"""

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from qfm_iqm.errors import ModelError


class FrozenNormConv(nn.Conv2d):
    """A convolution merged with a batch norm in evaluation mode.

    Args:
        conv: the convolution.
        norm: the batch norm after it.

    Attributes:
        weight: weight of the convolution; trained.
        bias: bias of the merged layer; trained.
        scale: (C, 1, 1, 1) scale of the norm; constant.
    """

    scale: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__(**_settings(conv))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter(conv.weight.detach().clone())
        own = 0 if conv.bias is None else conv.bias.detach()
        self.bias = nn.Parameter(norm.bias.detach() + (own - norm.running_mean) * scale)
        self.register_buffer("scale", scale[:, None, None, None].clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolves (B, C, H, W)."""
        convolved: Tensor = self._conv_forward(x_BCHW, self.weight * self.scale, self.bias)
        return convolved


def freeze_norms(network: nn.Module) -> None:
    """Replaces every convolution followed by a batch norm in a network.

    Raises:
        ModelError: a batch norm does not follow a plain convolution.
    """
    for parent in list(network.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            # No subclasses: timm's `Conv2dSame` pads differently.
            if type(conv) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, FrozenNormConv(conv, norm))
                # timm's norms contain the activation that follows.
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    left = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise ModelError(
            f"The batch norm '{left[0]}' does not follow a plain convolution: it cannot be folded."
        )


def scaled_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiplies the scales into the weights and sets them to one; the function is unchanged.

    Args:
        state: state of a network; without `FrozenNormConv` it is returned unchanged.
    """
    scaled = dict(state)
    for key, value in state.items():
        layer, _, what = key.rpartition(".")
        if what == "scale" and f"{layer}.weight" in state:
            scaled[f"{layer}.weight"] = state[f"{layer}.weight"] * value
            scaled[key] = torch.ones_like(value)
    return scaled


def plain_convolutions(network: nn.Module) -> nn.Module:
    """A copy of a network for export, with plain convolutions that include their scale.

    In-place activations are turned off: torch exports networks with them far more slowly.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        if hasattr(parent, "inplace"):  # activations
            setattr(parent, "inplace", False)  # noqa: B010 - of modules in general
        for name, conv in list(parent.named_children()):
            if isinstance(conv, FrozenNormConv):
                setattr(parent, name, _plain(conv))
    return network


def _plain(conv: FrozenNormConv) -> nn.Conv2d:
    plain = nn.Conv2d(**_settings(conv))
    plain.weight = nn.Parameter((conv.weight * conv.scale).detach(), requires_grad=False)
    plain.bias = conv.bias
    return plain


def _settings(conv: nn.Conv2d) -> dict[str, Any]:
    """The arguments that a convolution was built with."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {name: getattr(conv, name) for name in (*names, "groups", "padding_mode")}
