"""Encoder for whole photos: tokens from the last two stages of a convolutional backbone.

It is fully convolutional and encodes photos of any size from 32 pixels per side in one pass. The
last stage encodes a photo's content; the stage before it still encodes distortions. The class token
is computed from the mean and standard deviation of each channel of both stages.

Batch norms are folded into the convolutions before them and keep their pretrained statistics
(`model.frozen_norm`).

Shapes: B photos, C channels, h and w height and width of a stage's map, N patch tokens of all
stages, D token width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from qfm_iqm.errors import ModelError
from qfm_iqm.model.frozen_norm import freeze_norms

STAGES = 2  # number of last stages used
WIDTH = 192  # default token width
_EPSILON = 1e-5  # added to variances: the root of a flat photo's zero variance has no gradient


class StageEncoder(nn.Module):
    """A convolutional timm backbone; maps photos in [0, 1] to tokens of its last two stages.

    Args:
        backbone: timm's model name.
        crop: smallest side of photos in pixels.
        mean: mean of each color channel, which is subtracted.
        std: standard deviation of each color channel, which is divided by.
        width: width D that each stage's features are projected to; None takes `WIDTH`.
        state: pretrained weights of the backbone, with timm's key names; None leaves it random.
            Weights after the last stage are ignored.

    Attributes:
        width: token width D.
        patches: patch tokens per side of a crop in the finer stage.
        frozen: the frozen parts of the backbone.

    Raises:
        ModelError: the backbone is unknown, has no stages or has norms that cannot be folded, or
            the weights do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        *,
        crop: int = 224,
        mean: Sequence[float],
        std: Sequence[float],
        width: int | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.width = width = width or WIDTH
        self.frozen: tuple[nn.Module, ...] = ()
        self.backbone: Any = _create(backbone, state)
        stages = self.backbone.feature_info[-STAGES:]
        self.patches = crop // stages[0]["reduction"]
        channels = [info["num_chs"] for info in stages]
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        self.norms = nn.ModuleList([nn.LayerNorm(count) for count in channels])
        self.projections = nn.ModuleList([nn.Linear(count, width) for count in channels])
        self.class_norm = nn.LayerNorm(2 * sum(channels))
        self.class_projection = nn.Linear(2 * sum(channels), width)

    def freeze(self, blocks: int | None = None) -> None:
        """Freezes the backbone or its first blocks; nothing is propagated back through them.

        Args:
            blocks: number of first groups of blocks to freeze, with the stem; None freezes the
                whole backbone.

        Raises:
            ModelError: the backbone has fewer groups.
        """
        if blocks is None:
            self.frozen = (self.backbone,)
        else:
            groups = self.backbone.blocks
            if blocks > len(groups):
                raise ModelError(
                    f"The backbone has {len(groups)} groups of blocks: {blocks} cannot be frozen."
                )
            self.frozen = (self.backbone.conv_stem, self.backbone.bn1, *groups[:blocks])
        for part in self.frozen:
            part.requires_grad_(False)

    def frozen_features(self, crops_BCSS: Tensor) -> Tensor:
        """Not supported: features of two stages cannot be cached.

        Raises:
            ModelError: always.
        """
        raise ModelError("The features of a backbone's stages cannot be cached.")

    def forward(self, photos_BCHW: Tensor) -> Tensor:
        """Encodes photos (B, 3, H, W) in [0, 1].

        Returns:
            Tokens (B, 1 + N, D): the class token, then the tokens of each stage, row by row.
        """
        return self.tokens(self.stages(photos_BCHW))

    def stages(self, photos_BCHW: Tensor) -> list[Tensor]:
        """The maps (B, C, h, w) of the last two stages."""
        normalized_BCHW = (photos_BCHW - self.mean) / self.std
        maps: list[Tensor] = self.backbone.forward_intermediates(
            normalized_BCHW.contiguous(memory_format=torch.channels_last),
            indices=STAGES,
            intermediates_only=True,
        )
        return maps

    def tokens(self, maps: Sequence[Tensor]) -> Tensor:
        """Tokens (B, 1 + N, D) from stage maps (B, C, h, w), or from equal parts of them."""
        features = [stage_BChw.flatten(2).transpose(1, 2) for stage_BChw in maps]
        statistics = [part for features_BNC in features for part in _statistics(features_BNC)]
        class_BD = self.class_projection(self.class_norm(torch.cat(statistics, 1)))
        patches = [
            project(norm(features_BNC))
            for project, norm, features_BNC in zip(
                self.projections, self.norms, features, strict=True
            )
        ]
        return torch.cat([class_BD[:, None], *patches], 1)


def _statistics(features_BNC: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, C) of each channel."""
    variance_BC = features_BNC.var(1, unbiased=False)
    return features_BNC.mean(1), torch.sqrt(variance_BC + _EPSILON)


def _create(name: str, state: Mapping[str, Tensor] | None) -> Any:
    """Builds the backbone up to its last stage, with folded norms."""
    try:
        backbone: Any = timm.create_model(name, num_classes=0)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"Backbone '{name}' is not known to timm {timm.__version__}.") from error
    if not hasattr(backbone, "forward_intermediates") or not hasattr(backbone, "feature_info"):
        raise ModelError(f"Backbone '{name}' has no stages in timm {timm.__version__}.")
    backbone.prune_intermediate_layers(STAGES, prune_norm=True, prune_head=True)
    if state is not None:
        own = backbone.state_dict()
        lacking = sorted(set(own) - set(state))
        if lacking:
            raise ModelError(f"The weights lack {lacking[0]}: they are not those of '{name}'.")
        try:
            backbone.load_state_dict({key: state[key] for key in own})
        except RuntimeError as error:
            raise ModelError(f"The weights do not fit '{name}'.") from error
    backbone.eval()
    freeze_norms(backbone)
    return backbone.to(memory_format=torch.channels_last)
