"""What scores are measured in; light to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class LabelUnits(BaseModel):
    """What a score is measured in; part of a model's card.

    Attributes:
        name: of the scale, e.g. "MOS".
        minimum: lower end of the scale that people rated on, None if it has no fixed end.
        maximum: upper end.
        higher_is_better: the direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "MOS"
    minimum: float | None = None
    maximum: float | None = None
    higher_is_better: bool = True
