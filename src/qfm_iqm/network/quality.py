"""The quality network: encoder, decoder and label scale (METHOD section 3).

Shapes: B crops, S crop size, N patch tokens, D token width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from qfm_iqm.network.config import NetworkConfig
from qfm_iqm.network.decoder import AttentionPanelDecoder
from qfm_iqm.network.encoder import Encoder
from qfm_iqm.network.scale import LabelScale


class QualityNetwork(nn.Module):
    """Crops in [0, 1] to qualities in the label's units.

    Args:
        backbone: timm's name of the encoder.
        crop: side of the crops in pixels.
        width: token width after a linear projection; None keeps the backbone's.
        heads: attention heads of the decoder; None takes one per 64 channels.
        panel: learned queries of the decoder.
        label_mean: mean of the training labels, in their units.
        label_std: their standard deviation.
        backbone_state: pretrained weights of the backbone in timm's key names.

    Raises:
        ModelError: an unknown backbone, weights that do not fit, heads that do not divide.
    """

    def __init__(
        self,
        backbone: str,
        *,
        crop: int = 224,
        width: int | None = None,
        heads: int | None = None,
        panel: int = 6,
        label_mean: float = 0.0,
        label_std: float = 1.0,
        backbone_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.config = NetworkConfig(
            backbone=backbone, crop=crop, width=width, heads=heads, panel=panel
        )
        self.encoder = Encoder(backbone, crop=crop, width=width, state=backbone_state)
        self.decoder = AttentionPanelDecoder(self.encoder.width, heads=heads, panel=panel)
        self.scale = LabelScale(label_mean, label_std)

    def encode(self, crops_BCSS: Tensor) -> Tensor:
        """Crops (B, 3, S, S) in [0, 1] to tokens (B, 1 + N, D), class token first."""
        tokens: Tensor = self.encoder(crops_BCSS)
        return tokens

    def decode(self, tokens_BND: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D) to qualities (B,) in label units."""
        return self.scale.to_units(self.decoder(tokens_BND))

    def forward(self, crops_BCSS: Tensor) -> Tensor:
        """Crops (B, 3, S, S) in [0, 1] to qualities (B,) in label units."""
        return self.decode(self.encode(crops_BCSS))
