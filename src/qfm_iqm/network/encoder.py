"""Encoder: a timm backbone that turns crops into a class token and patch tokens.

Any timm model that yields a token grid works: vision transformers natively, convolutional and
hybrid networks by flattening their last feature map, with the mean of the patch tokens in the
class token's place (METHOD section 3).

Shapes: B crops, C channels, S crop size, N patch tokens, D token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from textwrap import shorten
from typing import Any

import timm
import torch
from timm.models.mobilenetv3 import MobileNetV3
from torch import Tensor, nn

from qfm_iqm.errors import ModelError
from qfm_iqm.network.weights import known_config


class Encoder(nn.Module):
    """A timm backbone without its classifier, from crops in [0, 1] to tokens.

    Args:
        backbone: timm's name, with or without the tag of its weights.
        crop: side of the crops in pixels.
        width: tokens are projected to this width by one linear layer; None keeps the backbone's.
        state: the backbone's pretrained weights (timm's own key names); None leaves it random.

    Attributes:
        width: D of the tokens that come out.
        backbone_width: D of the backbone's own features.

    Raises:
        ModelError: an unknown backbone, weights that do not fit it, or a backbone whose features
            are no token grid.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        *,
        crop: int = 224,
        width: int | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.backbone: Any = _create(backbone, crop, state)  # timm's attributes are untyped
        # Pixel by pixel in memory: convolutions run faster on a CPU (benchmarks/speed.py).
        self.backbone.to(memory_format=torch.channels_last)
        config = self.backbone.pretrained_cfg
        # Normalisation belongs to the backbone: callers hand over plain [0, 1] pixels.
        self.register_buffer("mean", _channels(config["mean"]), persistent=False)
        self.register_buffer("std", _channels(config["std"]), persistent=False)
        self.backbone_width = int(self.backbone.num_features)
        _check_features(backbone, self.backbone, crop)
        self.width = width or self.backbone_width
        self.project = nn.Linear(self.backbone_width, width) if width else nn.Identity()
        self._prefix_tokens = int(getattr(self.backbone, "num_prefix_tokens", 0))
        self._has_class_token = getattr(self.backbone, "cls_token", None) is not None

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Encodes crops.

        Args:
            crops_BCSS: RGB crops (B, 3, S, S) in [0, 1].

        Returns:
            Tokens (B, 1 + N, D): the class token first.
        """
        normalised_BCSS = (crops_BCSS - self.mean) / self.std
        features = self.backbone.forward_features(
            normalised_BCSS.contiguous(memory_format=torch.channels_last)
        )
        if features.ndim == 4:
            # Convolutional maps are (B, D, h, w); some hierarchical transformers give (B, h, w, D).
            channels_first = features.shape[1] == self.backbone_width
            features = features.flatten(2).mT if channels_first else features.flatten(1, 2)
        patches = features[:, self._prefix_tokens :]
        class_token = features[:, :1] if self._has_class_token else patches.mean(1, keepdim=True)
        tokens: Tensor = self.project(torch.cat([class_token, patches], 1))
        return tokens


def _create(name: str, crop: int, state: Mapping[str, Tensor] | None) -> Any:
    """Builds the backbone without classifier and, if given, loads `state` into it."""
    config = known_config(name)
    if config is None:
        raise ModelError(
            f"Backbone '{name}' is not known to timm {timm.__version__}: "
            "timm.list_models() lists the names, timm.list_pretrained() those with a weights tag."
        )
    # Networks with a position embedding are built for one input size; others take any.
    options: dict[str, Any] = {"img_size": crop} if config.fixed_input_size else {}
    if state is not None:
        _check_complete(name, state)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    try:
        backbone: Any = timm.create_model(name, num_classes=0, **options)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = shorten(str(error), 400, placeholder=" ...")
        raise ModelError(f"Backbone '{name}' cannot be built at {crop} pixels: {reason}") from error
    # What stands behind the features is dead weight here. (In EfficientNets the head convolution
    # stands before them, and stays.)
    behind = ["attn_pool", "fc_norm", "head"]
    if isinstance(backbone, MobileNetV3):
        behind += ["conv_head", "norm_head"]
    for part in behind:
        if hasattr(backbone, part):
            setattr(backbone, part, nn.Identity())
    for module in backbone.modules():
        if hasattr(module, "get_attention_biases"):
            module.get_attention_biases = partial(_attention_biases, module)
    return backbone


def _attention_biases(module: Any, device: torch.device) -> Tensor:
    """The position biases of LeViT and its kin, looked up anew each time.

    timm keeps those of the first evaluation: stale once weights are loaded, and without a
    gradient for good if that evaluation had none.
    """
    biases: Tensor = module.attention_biases[:, module.attention_bias_idxs]
    return biases


@torch.no_grad()
def _check_features(name: str, backbone: Any, crop: int) -> None:
    """Runs one black crop through, to refuse now what would fail at the first real one."""
    try:
        features = backbone.eval().forward_features(torch.zeros(1, 3, crop, crop))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = shorten(str(error), 400, placeholder=" ...")
        raise ModelError(f"Backbone '{name}' cannot take {crop} pixels: {reason}") from error
    finally:
        backbone.train()
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) not in (3, 4) or backbone.num_features not in shape[1:]:
        raise ModelError(f"Backbone '{name}' gives no grid of tokens but features {shape}.")


def _check_complete(name: str, state: Mapping[str, Tensor]) -> None:
    """Refuses weights that lack a key of the backbone or bring one it does not have.

    timm itself stops being strict as soon as the classifier is left out, so we look first.
    The classifier alone may be absent: it is not used.
    """
    with torch.device("meta"):
        whole: Any = timm.create_model(name)
    heads = whole.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    expected = set(whole.state_dict())
    missing = sorted(key for key in expected - set(state) if not key.startswith(prefixes))
    unexpected = sorted(set(state) - expected)
    for keys, verb in ((missing, "lack"), (unexpected, "bring unexpected")):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ModelError(
                f"The weights {verb} {', '.join(keys[:3])}{more}: they are not those of '{name}'."
            )


def _channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)
