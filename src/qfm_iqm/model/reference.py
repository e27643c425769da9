"""Reference statistics: what a score says against other photos, against people, and where it holds.

Part of a model's card, found on photos that the model was not trained on. All of it
is numbers in the card, so that whatever computes the scores can say what they mean.

Source of the interval: split conformal prediction (Vovk et al., 2005; Lei et al., 2018).
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qfm_iqm.arrays import Doubles


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curve(_Section):
    """A monotone curve: straight between its knots, flat beyond them.

    Attributes:
        kind: how it was found, for people.
        x: knots, ascending.
        y: values there, all ascending or all descending (equal neighbors allowed).
    """

    kind: str = ""
    x: tuple[float, ...] = Field(min_length=1)
    y: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_a_monotone_curve(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"a curve has as many x as y, not {len(self.x)} and {len(self.y)}")
        steps = np.diff(self.y)
        if (np.diff(self.x) <= 0).any() or ((steps < 0).any() and (steps > 0).any()):
            raise ValueError("a curve's x must ascend, and its y all ascend or all descend")
        return self

    def __call__(self, values: npt.ArrayLike) -> Doubles:
        """The curve at values of any shape."""
        return np.asarray(np.interp(np.asarray(values, dtype=np.float64), self.x, self.y))


class Interval(_Section):
    """How far the mean opinion of people may lie from a score.

    Attributes:
        level: share of images whose mean opinion the interval holds.
        images: on which it was found.
        half_width: distance from the score to each end.
        coverage: share of other held-out images whose mean opinion it holds; None if none were
            kept for that.
        checked: how many these were.
    """

    level: float = Field(gt=0, lt=1)
    images: int = Field(ge=1)
    half_width: float = Field(ge=0)
    coverage: float | None = None
    checked: int = 0


class OODDetector(_Section):
    """What the pixels of the photos are like that a model has learned from.

    The distance of an image is Mahalanobis's: how many standard deviations its statistics
    (`image.pixel_features`) lie from the photos' mean, in the direction in which it lies.

    Attributes:
        names: of the statistics.
        mean: of each over the photos.
        whitening: rows that turn a difference from the mean into independent units.
        limit: images at a larger distance are out of distribution.
        false_alarms: share of photos that lie beyond it, of photos from which neither mean and
            whitening nor the limit were found.
        images: on which mean and whitening were found.
        checked: on which the false alarms were counted; 0 on a card that does not say.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    limit: float
    false_alarms: float
    images: int
    checked: int = 0

    def distance(self, statistics: Sequence[float] | Doubles) -> float:
        """How far an image's statistics lie from those of the photos."""
        difference = np.asarray(statistics, dtype=np.float64) - np.asarray(self.mean)
        return float(np.linalg.norm(np.asarray(self.whitening) @ difference))


class ReferenceStatistics(_Section):
    """What a model's scores say, found on held-out photos.

    Attributes:
        population: the photos that `percentile` compares with, in words.
        images: how many these are.
        quantiles: of their scores in label units, evenly spaced from the lowest to the highest.
        interval: where the mean opinion of people lies; None if it was not found.
        ood_detector: tells images unlike the training photos; None if it was not found.
    """

    population: str
    images: int = Field(ge=2)
    quantiles: tuple[float, ...] = Field(min_length=2)
    interval: Interval | None = None
    ood_detector: OODDetector | None = None

    def share_below(self, score: float) -> float:
        """Share of the population with a lower score, 0 to 1; half of what is equal counts."""
        places = np.linspace(0, 1, len(self.quantiles))
        left = np.searchsorted(self.quantiles, score, side="left")
        right = np.searchsorted(self.quantiles, score, side="right")
        if left < right:  # on one or several of the quantiles
            return float((places[left] + places[right - 1]) / 2)
        return float(np.interp(score, self.quantiles, places))
