"""What scores are measured in; light to import.

A network answers in the units of the labels it was trained on: 0 to 1, 1 to 5, 0 to 100, and now
and then the lower the better. People are shown one scale: 0 to 100, higher is better, a linear map
of the label's own range. A label without a range is shown as it is.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

BEST = 100.0  # of the scale that people are shown; the worst is 0


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

    @model_validator(mode="after")
    def _ends_in_order(self) -> LabelUnits:
        if self.span is not None and not self.span > 0:
            raise ValueError(f"minimum = {self.minimum} must be below maximum = {self.maximum}")
        return self

    @property
    def span(self) -> float | None:
        """Length of the range; None without a range."""
        if self.minimum is None or self.maximum is None:
            return None
        return self.maximum - self.minimum

    @property
    def shown(self) -> LabelUnits:
        """The units that people are shown: 0 to 100, or these very units if they have no range."""
        if self.span is None:
            return self
        return LabelUnits(name="quality", minimum=0.0, maximum=BEST)

    def show(self, value: float) -> float:
        """A value in these units as people are shown it; beyond the range, the range's end."""
        if self.minimum is None or self.maximum is None:
            return value
        worst, best = self.minimum, self.maximum
        if not self.higher_is_better:
            worst, best = best, worst
        return min(BEST, max(0.0, BEST * (value - worst) / (best - worst)))

    def show_width(self, width: float) -> float:
        """A difference in these units, without its sign, as people are shown it."""
        return abs(width) if self.span is None else BEST * abs(width) / self.span
