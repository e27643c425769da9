"""The quality network: encoder, decoder and label scale (docs/method.md, section 3).

Shapes: B crops, S crop size, N patch tokens, D token width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from qfm_iqm.model.backbone import build_encoder
from qfm_iqm.model.card import NetworkConfig
from qfm_iqm.model.decoder import build_decoder


class LabelScale(nn.Module):
    """Mean and standard deviation of the training labels, stored with the weights.

    The network learns z-scored labels, so that losses and thresholds have the same meaning on every
    dataset. Its predictions are converted back to label units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def to_units(self, standard_B: Tensor) -> Tensor:
        """Converts z-scores (B,) to label units."""
        return standard_B * self.std + self.mean

    def to_standard(self, labels_B: Tensor) -> Tensor:
        """Converts label units (B,) to z-scores."""
        return (labels_B - self.mean) / self.std


class QualityNetwork(nn.Module):
    """Maps crops in [0, 1] to qualities in label units.

    Args:
        backbone: name in `backbone.BACKBONES`, or timm's model name.
        crop: side of the crops in pixels.
        width: token width after a linear projection; None keeps the backbone's width.
        decoder: name in `decoder.DECODERS`.
        heads: attention heads of the decoder; None takes one per 64 channels.
        panel: number of learned queries of the decoder.
        label_mean: mean of the training labels, in label units.
        label_std: standard deviation of the training labels, above 0.
        backbone_state: pretrained weights of the backbone, with timm's key names.

    Raises:
        ModelError: backbone or decoder is unknown, the weights do not fit, or `heads` does not
            divide the width.
    """

    def __init__(
        self,
        backbone: str,
        *,
        crop: int = 224,
        width: int | None = None,
        decoder: str = "attention-panel",
        heads: int | None = None,
        panel: int = 6,
        label_mean: float = 0.0,
        label_std: float = 1.0,
        backbone_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.config = NetworkConfig(
            backbone=backbone,
            crop=crop,
            width=width,
            decoder=decoder,
            heads=heads,
            panel=panel,
        )
        self.encoder = build_encoder(backbone, crop=crop, width=width, state=backbone_state)
        self.decoder = build_decoder(decoder, self.encoder.width, heads=heads, panel=panel)
        self.scale = LabelScale(label_mean, label_std)

    def encode(self, crops_BCSS: Tensor) -> Tensor:
        """Encodes crops (B, 3, S, S) in [0, 1] to tokens (B, 1 + N, D), class token first."""
        tokens: Tensor = self.encoder(crops_BCSS)
        return tokens

    def decode(self, tokens_BND: Tensor) -> Tensor:
        """Decodes tokens (B, 1 + N, D) to qualities (B,) in label units."""
        return self.scale.to_units(self.decoder(tokens_BND))

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Predicts qualities (B,) in label units for crops (B, 3, S, S) in [0, 1]."""
        return self.decode(self.encode(crops_BCSS))
