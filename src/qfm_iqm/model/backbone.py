"""Encoder: a backbone that turns crops into a class token and patch tokens.

`Encoder` is the protocol of an encoder. `BACKBONES` lists encoders that are not timm models
(docs/extending.md). `TimmEncoder` takes any timm model that yields a token grid: vision
transformers directly; convolutional and hybrid networks by flattening their last feature map, with
the mean of the patch tokens as class token (docs/method.md, section 3).

The backbone may be frozen entirely, or a vision transformer up to some block. The frozen part's
features of a crop then never change and can be cached (`training.feature_cache`).

Shapes: B crops, C channels, S crop size, N patch tokens, P tokens before them (class token,
registers), D token width.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from textwrap import shorten
from typing import Any, Protocol, Self

import timm
import torch
from timm.models import VisionTransformer
from timm.models.mobilenetv3 import MobileNetV3
from torch import Tensor, nn

from qfm_iqm.errors import ModelError
from qfm_iqm.model.stage_encoder import StageEncoder
from qfm_iqm.model.weights import known_config


class Encoder(Protocol):
    """Interface of an encoder: a `torch.nn.Module` with these members.

    Attributes:
        backbone: the module that gets the public weights and the adapters.
        width: token width D.
        patches: patch tokens per side of a crop; N is its square.
        frozen: modules that `freeze` has frozen; empty if none.
    """

    backbone: Any
    width: int
    patches: int
    frozen: tuple[nn.Module, ...]

    def __call__(self, crops_BCSS: Tensor) -> Tensor:
        """Encodes crops (B, 3, S, S) in [0, 1], or their frozen features (three dimensions).

        Returns:
            Tokens (B, 1 + N, D): the class token first.
        """

    def freeze(self, blocks: int | None = None) -> None:
        """Freezes the whole backbone, or its first blocks.

        Raises:
            ModelError: the backbone has no such blocks.
        """

    def frozen_features(self, crops_BCSS: Tensor) -> Tensor:
        """The frozen part's features of crops: a tensor with three dimensions."""

    def state_dict(self) -> dict[str, Any]:
        """As in `torch.nn.Module`."""

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> Any:
        """As in `torch.nn.Module`."""


BACKBONES: dict[str, Callable[..., Encoder]] = {
    # The normalization of its pretraining: (x - 127) / 128 on 8-bit pixels.
    "efficientnet_lite0_stages": partial(
        StageEncoder, "efficientnet_lite0", mean=(127 / 255,) * 3, std=(128 / 255,) * 3
    ),
}
"""Encoders that are not timm models, by backbone name; called as (crop=, width=, state=)."""


def build_encoder(
    backbone: str,
    *,
    crop: int = 224,
    width: int | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Encoder:
    """Builds the encoder of a backbone: one in `BACKBONES`, else a timm model.

    Arguments and errors are those of `TimmEncoder`.
    """
    if backbone in BACKBONES:
        return BACKBONES[backbone](crop=crop, width=width, state=state)
    return TimmEncoder(backbone, crop=crop, width=width, state=state)


class TimmEncoder(nn.Module):
    """A timm backbone without its classifier; maps crops in [0, 1] to tokens.

    Args:
        backbone: timm's model name, with or without the weights tag.
        crop: side of the crops in pixels.
        width: width of a linear projection of the tokens; None keeps the backbone's width.
        state: pretrained weights of the backbone (timm's key names); None leaves it random.

    Attributes:
        width: width D of the output tokens.
        backbone_width: width of the backbone's features.
        patches: patch tokens per side of a crop, which limits the resolution of maps.
        frozen: modules of the backbone that `freeze` has frozen.

    Raises:
        ModelError: the backbone is unknown, the weights do not fit it, or its features are no token
            grid.
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
        self.frozen: tuple[nn.Module, ...] = ()
        self._frozen_blocks: int | None = None
        self.backbone: Any = _create(backbone, crop, state)  # timm's attributes are untyped
        # channels_last convolutions are faster on a CPU (benchmarks/speed.py).
        self.backbone.to(memory_format=torch.channels_last)
        config = self.backbone.pretrained_cfg
        # The encoder normalizes; callers pass pixels in [0, 1].
        self.register_buffer("mean", _channels(config["mean"]), persistent=False)
        self.register_buffer("std", _channels(config["std"]), persistent=False)
        self.backbone_width = int(self.backbone.num_features)
        features = _check_features(backbone, self.backbone, crop)
        self.width = width or self.backbone_width
        self.project = nn.Linear(self.backbone_width, width) if width else nn.Identity()
        self._prefix_tokens = int(getattr(self.backbone, "num_prefix_tokens", 0))
        self._has_class_token = getattr(self.backbone, "cls_token", None) is not None
        self.patches = math.isqrt(self._arranged(features).shape[1] - 1)

    def freeze(self, blocks: int | None = None) -> None:
        """Freezes the backbone or its first blocks: no training, always in evaluation mode.

        Args:
            blocks: number of first blocks of a vision transformer to freeze, with its embeddings;
                None freezes the whole backbone, which may be any network.

        Raises:
            ModelError: the backbone is not a vision transformer, or has fewer blocks.
        """
        if blocks is None:
            self.frozen = (self.backbone,)
            self.backbone.requires_grad_(False)
        else:
            vit = self.backbone
            if not isinstance(vit, VisionTransformer):
                raise ModelError(
                    "Only the blocks of a plain vision transformer can be frozen, and the "
                    f"backbone is a {type(vit).__name__}: leave backbone.frozen_blocks out."
                )
            if blocks > len(vit.blocks):
                raise ModelError(
                    f"The backbone has {len(vit.blocks)} blocks: {blocks} cannot be frozen."
                )
            after = {id(part) for part in (*vit.blocks[blocks:], vit.norm)}
            parts = [part for part in vit.children() if part is not vit.blocks]
            self.frozen = tuple(p for p in (*parts, *vit.blocks) if id(p) not in after)
            for part in self.frozen:
                part.requires_grad_(False)
            for parameter in vit.parameters(recurse=False):  # class token, position embedding
                parameter.requires_grad_(False)
        self._frozen_blocks = blocks
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of everything that is not frozen."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """See `Encoder.__call__`."""
        if crops_BCSS.ndim == 3:
            return self._after(crops_BCSS)
        if self.frozen:
            return self._after(self.frozen_features(crops_BCSS))
        tokens: Tensor = self.project(self._arranged(self._features(crops_BCSS)))
        return tokens

    def frozen_features(self, crops_BCSS: Tensor) -> Tensor:
        """The frozen part's features of crops (B, 3, S, S) in [0, 1].

        Returns:
            Tokens (B, P + N, D) after the last frozen block; if the whole backbone is frozen, its
            class and patch tokens (B, 1 + N, D).

        Raises:
            ValueError: nothing is frozen.
        """
        if not self.frozen:
            raise ValueError("an encoder without a frozen part has no frozen features")
        if self._frozen_blocks is None:
            return self._arranged(self._features(crops_BCSS))
        (found,) = self.backbone.forward_intermediates(
            self._normalized(crops_BCSS),
            indices=[self._frozen_blocks - 1],
            return_prefix_tokens=True,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        features_BND: Tensor = torch.cat(found[::-1], 1) if isinstance(found, tuple) else found
        return features_BND

    def _after(self, features_BND: Tensor) -> Tensor:
        """Maps frozen features to tokens (B, 1 + N, D)."""
        if not self.frozen:
            raise ValueError("crops must have four dimensions (B, 3, S, S)")
        if self._frozen_blocks is not None:
            vit = self.backbone
            features_BND = self._arranged(vit.norm(vit.blocks[self._frozen_blocks :](features_BND)))
        tokens: Tensor = self.project(features_BND)
        return tokens

    def _normalized(self, crops_BCSS: Tensor) -> Tensor:
        normalized_BCSS = (crops_BCSS - self.mean) / self.std
        return normalized_BCSS.contiguous(memory_format=torch.channels_last)

    def _features(self, crops_BCSS: Tensor) -> Tensor:
        features: Tensor = self.backbone.forward_features(self._normalized(crops_BCSS))
        return features

    def _arranged(self, features: Tensor) -> Tensor:
        """The backbone's features as class token and patch tokens (B, 1 + N, D)."""
        if features.ndim == 4:
            # Convolutional maps are (B, D, h, w); some hierarchical transformers give (B, h, w, D).
            channels_first = features.shape[1] == self.backbone_width
            features = (
                features.flatten(2).transpose(1, 2) if channels_first else features.flatten(1, 2)
            )
        patches = features[:, self._prefix_tokens :]
        class_token = features[:, :1] if self._has_class_token else patches.mean(1, keepdim=True)
        return torch.cat([class_token, patches], 1)


def _create(name: str, crop: int, state: Mapping[str, Tensor] | None) -> Any:
    """Builds the backbone without its classifier and loads `state`, if given."""
    config = known_config(name)
    if config is None:
        raise ModelError(
            f"Backbone '{name}' is not known to timm {timm.__version__}: "
            "timm.list_models() lists the names, timm.list_pretrained() those with a weights tag."
        )
    # Networks with a position embedding are built for one input size; others take any size.
    options: dict[str, Any] = {"img_size": crop} if config.fixed_input_size else {}
    if state is not None:
        _check_complete(name, state)
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    try:
        backbone: Any = timm.create_model(name, num_classes=0, **options)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = shorten(str(error), 400, placeholder=" ...")
        raise ModelError(f"Backbone '{name}' cannot be built at {crop} pixels: {reason}") from error
    # Layers after the features are not used. (In EfficientNets the head convolution comes before
    # them, and is kept.)
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
    """The position biases of LeViT-like networks, without timm's cache.

    timm caches them at the first evaluation: they are stale after weights are loaded, and never
    have a gradient if that evaluation had none.
    """
    biases: Tensor = module.attention_biases[:, module.attention_bias_idxs]
    return biases


@torch.no_grad()
def _check_features(name: str, backbone: Any, crop: int) -> Tensor:
    """Encodes one black crop, so that an unsuitable backbone fails now."""
    try:
        features = backbone.eval().forward_features(torch.zeros(1, 3, crop, crop))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = shorten(str(error), 400, placeholder=" ...")
        raise ModelError(f"Backbone '{name}' cannot take {crop} pixels: {reason}") from error
    finally:
        backbone.train()
    shape = tuple(getattr(features, "shape", ()))
    if len(shape) not in (3, 4) or backbone.num_features not in shape[1:]:
        raise ModelError(f"Backbone '{name}' gives features {shape}, not a grid of tokens.")
    found: Tensor = features
    return found


def _check_complete(name: str, state: Mapping[str, Tensor]) -> None:
    """Refuses weights with missing or unexpected keys.

    timm does not load strictly without a classifier, so the keys are checked here. Only the
    classifier may be missing, because it is not used.
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
