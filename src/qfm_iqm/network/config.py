"""The arguments a network is built from, as a model's card keeps them; light to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class NetworkConfig(BaseModel):
    """The network constructor's arguments.

    Attributes:
        backbone: timm's name of the encoder.
        crop: side of the crops in pixels.
        width: token width after a linear projection; None keeps the backbone's.
        heads: attention heads of the decoder; None takes one per 64 channels.
        panel: learned queries of the decoder.
        statistics: centres of the second opinion, on scene statistics (`network.statistics`); None
            for none.
        statistics_weight: of the second opinion; the decoder's has the rest of 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    backbone: str
    crop: int = Field(default=224, ge=16)
    width: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    panel: int = Field(default=6, ge=1)
    statistics: int | None = Field(default=None, ge=1)
    statistics_weight: float = Field(default=0.5, gt=0, lt=1)
