"""Decoder: the attention panel of DEIQT, which turns tokens into one quality.

Six learned panel embeddings, each added to the class token, are the queries of one pre-norm
transformer decoder layer over the patch tokens; one shared linear head and the mean over the
panel give the quality (Qin et al., AAAI 2023; METHOD section 3).

Shapes: B crops, N patch tokens, D token width, L panel members.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qfm_iqm.errors import ModelError

HEAD_WIDTH = 64  # of an attention head, as in the ViTs the paper builds on


class AttentionPanelDecoder(nn.Module):
    """Tokens to a quality, in standard deviations of the training labels.

    Args:
        width: D of the tokens.
        heads: attention heads; None takes one per 64 channels.
        panel: L, the number of learned queries.

    Raises:
        ModelError: `heads` does not divide `width`.
    """

    def __init__(self, width: int, *, heads: int | None = None, panel: int = 6) -> None:
        super().__init__()
        heads = heads or max(1, width // HEAD_WIDTH)
        if width % heads:
            raise ModelError(
                f"The decoder's {heads} heads do not divide its width of {width}: "
                "choose network.width and network.heads so that they do."
            )
        self.panel = nn.Parameter(torch.empty(1, panel, width))
        nn.init.normal_(self.panel, std=0.02)
        self.layer = nn.TransformerDecoderLayer(
            width,
            heads,
            dim_feedforward=4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.head = nn.Linear(width, 1, bias=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """Decodes tokens (B, 1 + N, D), class token first, to qualities (B,)."""
        class_B1D, patches_BND = tokens_BND[:, :1], tokens_BND[:, 1:]
        opinions_BLD = self.layer(self.panel + class_B1D, patches_BND)
        quality: Tensor = self.head(opinions_BLD).squeeze(-1).mean(1)
        return quality
