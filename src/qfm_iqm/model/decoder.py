"""Decoder: DEIQT's attention panel, which predicts quality from tokens.

Six learned panel embeddings, each added to the class token, are the queries of one pre-norm
transformer decoder layer over the patch tokens. A shared linear head gives one value per query, and
their mean is the quality (Qin et al., AAAI 2023; docs/method.md, section 3).

`DECODERS` lists the decoders that a recipe may choose. A decoder is a module built from (width,
heads=, panel=). It maps tokens (B, 1 + N, D), class token first, to qualities (B,) in standard
units.

Shapes: B crops, N patch tokens, D token width, L panel members, H heads of width W.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.errors import ModelError

HEAD_WIDTH = 64  # channels per attention head, as in the ViTs that the paper uses


class AttentionPanelDecoder(nn.Module):
    """Predicts quality from tokens, in standard units (z-scores of the training labels).

    Args:
        width: token width D.
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
        self.layer = _PanelLayer(
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


class _PanelLayer(nn.TransformerDecoderLayer):
    """The same layer with a tenth of the arithmetic, for few queries and many tokens.

    With q = W_q x + b_q a query and t_n the tokens, a head gives

        sum_n a_n (W_v t_n + b_v),   a = softmax_n(q . (W_k t_n + b_k))
        = W_v (sum_n a_n t_n) + b_v, a = softmax_n((W_k^T q) . t_n),

    because q . b_k is the same for all n, and the a_n sum to one. Thus the L queries are projected,
    and no keys and values are computed for the N tokens.
    """

    def forward(self, panel_BLD: Tensor, patches_BND: Tensor) -> Tensor:  # type: ignore[override]
        normed_BLD = self.norm1(panel_BLD)
        panel_BLD = (
            panel_BLD + self.self_attn(normed_BLD, normed_BLD, normed_BLD, need_weights=False)[0]
        )
        panel_BLD = panel_BLD + self._look(self.norm2(panel_BLD), patches_BND)
        hidden = functional.gelu(self.linear1(self.norm3(panel_BLD)))
        answer_BLD: Tensor = panel_BLD + self.linear2(hidden)
        return answer_BLD

    def _look(self, panel_BLD: Tensor, patches_BND: Tensor) -> Tensor:
        """The panel's cross-attention to the patch tokens."""
        attention = self.multihead_attn
        heads, width = attention.num_heads, attention.head_dim
        query_DD, key_HWD, value_HWD = (
            weight.reshape(heads, width, -1) if number else weight
            for number, weight in enumerate(attention.in_proj_weight.chunk(3))
        )
        query_bias, _, value_bias = attention.in_proj_bias.chunk(3)
        query_BLD = functional.linear(panel_BLD, query_DD, query_bias) * width**-0.5
        query_BLHW = query_BLD.unflatten(-1, (heads, width))
        asked_BLHD = torch.einsum("blhw,hwd->blhd", query_BLHW, key_HWD)
        asked_BQD = asked_BLHD.flatten(1, 2)  # Q = L x H
        weights_BQN = (asked_BQD @ patches_BND.transpose(1, 2)).softmax(-1)
        seen_BLHD = (weights_BQN @ patches_BND).unflatten(1, (-1, heads))
        values_BLHW = torch.einsum("blhd,hwd->blhw", seen_BLHD, value_HWD)
        seen: Tensor = attention.out_proj(values_BLHW.flatten(2) + value_bias)
        return seen


DECODERS: dict[str, Callable[..., nn.Module]] = {"attention-panel": AttentionPanelDecoder}
"""The decoders by their names in recipes and cards."""


def build_decoder(name: str, width: int, *, heads: int | None, panel: int) -> nn.Module:
    """Builds a decoder by its name in `DECODERS`.

    Raises:
        ModelError: the name is unknown, or the decoder cannot be built with these arguments.
    """
    if name not in DECODERS:
        raise ModelError(f"There is no decoder '{name}'; choose {', '.join(DECODERS)}.")
    return DECODERS[name](width, heads=heads, panel=panel)
