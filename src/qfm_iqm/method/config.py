"""The options of the training method, as a recipe holds them; light to import."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MethodConfig(BaseModel):
    """The training method.

    Attributes:
        kind: "baseline" trains on labels alone, "qfm" adds memory, matching and consistency.
        memory: entries in the temporary memory.
        tau: largest label difference of a match, in standard deviations of the labels.
        alpha: weight of the matched features that are added.
        w_qcc: weight of the consistency term.
        ramp_epochs: epochs over which that weight rises linearly from zero.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    kind: Literal["baseline", "qfm"] = "baseline"
    memory: int = Field(default=1024, ge=1)
    tau: float = Field(default=0.25, gt=0)
    alpha: float = Field(default=0.1, ge=0)
    w_qcc: float = Field(default=1.0, ge=0)
    ramp_epochs: float = Field(default=1.0, ge=0)
