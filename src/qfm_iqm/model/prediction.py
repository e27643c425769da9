"""From the crops' answers to what is said of an image, by the model's card alone.

Whatever computes the answers - torch, another runtime, another machine - ends here.

Shapes: K crops of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qfm_iqm.model.card import ModelCard


@dataclass(frozen=True)
class QualityScore:
    """How good an image looks.

    Attributes:
        value: the score, 0 (worst) to 100 (best), if the card's label has a range, else in label
            units: the mean over the covering crops.
        spread: standard deviation of the crops' scores (0 for a single crop).
        n_crops: how many crops cover the image.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        percentile: share in % of the card's reference population that scores lower.
        low: lower end of the interval in which the card expects people's mean opinion.
        high: upper end.
        unusual: whether the image is unlike the photos that the model has learned from, in its
            pixels or as a side is shorter than the model's crop: then neither score nor interval
            can be relied on.

    The last four are None where the card does not say what scores mean; a small image is unusual
    for every model.

    >>> QualityScore(value=71.5, spread=2.0, n_crops=2, width=640, height=480).value
    71.5
    """

    value: float
    spread: float
    n_crops: int
    width: int
    height: int
    percentile: float | None = None
    low: float | None = None
    high: float | None = None
    unusual: bool | None = None


def score_of(
    card: ModelCard,
    values_K: npt.ArrayLike,
    *,
    width: int,
    height: int,
    statistics: Sequence[float] | npt.NDArray[np.float64] | None = None,
    shown: bool = True,
) -> QualityScore:
    """What a card makes of the answers for an image's crops.

    Args:
        card: of the model that gave them.
        values_K: the network's answers (K,) in its own label units.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
        statistics: of its pixels (`image.pixel_features`); without them only the size of an image
            can make it unusual.
        shown: on the scale that people are shown; False keeps label units (of the calibration,
            if there is one), to be compared with labels.
    """
    answers_K = np.asarray(values_K, dtype=np.float64)
    value = float(answers_K.mean())
    if card.calibration is not None:
        value, answers_K = float(card.calibration(value)), card.calibration(answers_K)
    spread = float(answers_K.std())
    label, meaning = card.label, card.meaning
    percentile = low = high = unusual = None
    if meaning is not None:
        share = meaning.share_below(value)
        percentile = 100 * (share if label.higher_is_better else 1 - share)
        if meaning.interval is not None:
            low, high = value - meaning.interval.reach, value + meaning.interval.reach
        if meaning.usual is not None and statistics is not None:
            unusual = meaning.usual.distance(statistics) > meaning.usual.limit
    if min(width, height) < card.preprocessing.crop:
        unusual = True  # no photo that the model has learned from was smaller than a crop
    if shown:
        value, spread = label.show(value), label.show_width(spread)
        if low is not None and high is not None:
            low, high = sorted((label.show(low), label.show(high)))
    return QualityScore(
        value, spread, answers_K.size, width, height, percentile, low, high, unusual
    )
