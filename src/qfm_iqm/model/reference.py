"""Reference statistics: percentile, mean opinion interval and out-of-distribution detector.

They are part of a model's card and computed on photos that the model was not trained on. The card
holds them as numbers, so that every runtime can use them.

Source of the interval: locally weighted conformal prediction (Lei et al., 2018).
"""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qfm_iqm.arrays import Doubles


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curve(_Section):
    """A monotone curve: linear between its knots, constant beyond them.

    Attributes:
        kind: description of how it was fitted.
        x: positions of the knots, ascending.
        y: values at the knots, all ascending or all descending (equal neighbors allowed).
    """

    kind: str = ""
    x: tuple[float, ...] = Field(min_length=1)
    y: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_a_monotone_curve(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"a curve needs as many x as y, not {len(self.x)} and {len(self.y)}")
        steps = np.diff(self.y)
        if (np.diff(self.x) <= 0).any() or ((steps < 0).any() and (steps > 0).any()):
            raise ValueError("a curve's x must ascend, and its y all ascend or all descend")
        return self

    def __call__(self, values: npt.ArrayLike) -> Doubles:
        """Evaluates the curve at values of any shape."""
        return np.asarray(np.interp(np.asarray(values, dtype=np.float64), self.x, self.y))


class Interval(_Section):
    """The interval around a score that contains the mean opinion score.

    Attributes:
        level: target share of images whose mean opinion score lies in the interval.
        images: number of images it was computed from.
        scores: scores with a half-width of their own, ascending.
        half_widths: distance from each of these scores to the ends of its interval; linear between
            them, constant beyond.
        half_width: mean distance over the images.
        coverage: share of images whose mean opinion score lay in an interval that was computed
            without them; None if it was not measured.
    """

    level: float = Field(gt=0, lt=1)
    images: int = Field(ge=1)
    scores: tuple[float, ...] = Field(min_length=1)
    half_widths: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    half_width: float = Field(ge=0)
    coverage: float | None = None

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        if len(self.scores) != len(self.half_widths) or (np.diff(self.scores) <= 0).any():
            raise ValueError("an interval needs a half-width for each of its ascending scores")
        return self

    def ends(self, scores: npt.ArrayLike) -> tuple[Doubles, Doubles]:
        """Lower and upper ends of the intervals around scores of any shape, in label units."""
        values = np.asarray(scores, dtype=np.float64)
        half_widths = np.interp(values, self.scores, self.half_widths)
        return values - half_widths, values + half_widths


class OODDetector(_Section):
    """Detects images whose pixel statistics are unlike those of the training photos.

    It uses the Mahalanobis distance of an image's statistics (`image.pixel_features`) from the mean
    of the photos.

    Attributes:
        names: names of the statistics.
        mean: mean of each statistic over the photos.
        whitening: matrix that whitens a difference from the mean.
        limit: images at a larger distance are out of distribution.
        false_alarms: share of photos beyond the limit, among photos that were used neither for the
            mean and the whitening nor for the limit.
        images: number of photos used for the mean and the whitening.
        checked: number of photos used for `false_alarms`; 0 if the card does not say.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    limit: float
    false_alarms: float
    images: int
    checked: int = 0

    def distance(self, statistics: Sequence[float] | Doubles) -> float:
        """The Mahalanobis distance of an image's statistics from the photos."""
        difference = np.asarray(statistics, dtype=np.float64) - np.asarray(self.mean)
        return float(np.linalg.norm(np.asarray(self.whitening) @ difference))


class ReferenceStatistics(_Section):
    """Reference statistics of a model's scores, from held-out photos.

    Attributes:
        population: description of the photos that `percentile` compares with.
        images: number of these photos.
        quantiles: evenly spaced quantiles of their scores in label units, from lowest to highest.
        interval: interval of the mean opinion score; None if not computed.
        ood_detector: detector of images unlike the training photos; None if not computed.
    """

    population: str
    images: int = Field(ge=2)
    quantiles: tuple[float, ...] = Field(min_length=2)
    interval: Interval | None = None
    ood_detector: OODDetector | None = None

    def share_below(self, score: float) -> float:
        """Share of the population with a lower score, 0 to 1; equal scores count half."""
        places = np.linspace(0, 1, len(self.quantiles))
        left = np.searchsorted(self.quantiles, score, side="left")
        right = np.searchsorted(self.quantiles, score, side="right")
        if left < right:  # equal to one or several quantiles
            return float((places[left] + places[right - 1]) / 2)
        return float(np.interp(score, self.quantiles, places))
