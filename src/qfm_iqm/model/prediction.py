"""Turns the predictions of an image's crops into its score, using only the model's card.

All runtimes and machines use this code, whatever computes the predictions.

Shapes: K crops of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.model.card import ModelCard


@dataclass(frozen=True)
class QualityScore:
    """The quality score of an image.

    Attributes:
        value: the score, the mean over the covering crops: from 0 (worst) to 100 (best) if the
            card's label has a range, else in label units.
        crop_std: standard deviation of the crops' scores (0 for a single crop).
        n_crops: number of crops that cover the image.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        percentile: percentage of the card's reference population with a lower score.
        mos_low: lower end of the interval expected to contain the mean opinion score.
        mos_high: upper end of that interval.
        out_of_distribution: whether the image is unlike the training photos, by its pixels or by a
            side shorter than the model's crop; its score and interval are then unreliable.

    The last four are None if the card has no reference statistics, except that a small image is
    out of distribution for every model.

    Examples:
        >>> QualityScore(value=71.5, crop_std=2.0, n_crops=2, width=640, height=480).value
        71.5
    """

    value: float
    crop_std: float
    n_crops: int
    width: int
    height: int
    percentile: float | None = None
    mos_low: float | None = None
    mos_high: float | None = None
    out_of_distribution: bool | None = None


def score_of(
    card: ModelCard,
    values_K: npt.ArrayLike,
    *,
    width: int,
    height: int,
    statistics: Sequence[float] | Doubles | None = None,
    shown: bool = True,
) -> QualityScore:
    """Computes an image's score from the predictions for its crops.

    Args:
        card: card of the model that made the predictions.
        values_K: the network's predictions (K,) in label units.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.
        statistics: the image's pixel statistics (`image.pixel_features`); without them, only the
            image's size can make it out of distribution.
        shown: return the display scale; False keeps label units (those of the calibration, if
            there is one) for comparison with labels.
    """
    answers_K = np.asarray(values_K, dtype=np.float64)
    value = float(answers_K.mean())
    if card.calibration is not None:
        value, answers_K = float(card.calibration(value)), card.calibration(answers_K)
    crop_std = float(answers_K.std())
    label, reference = card.label, card.reference_statistics
    percentile = mos_low = mos_high = out_of_distribution = None
    if reference is not None:
        share = reference.share_below(value)
        percentile = 100 * (share if label.higher_is_better else 1 - share)
        if reference.interval is not None:
            mos_low, mos_high = map(float, reference.interval.ends(value))
        detector = reference.ood_detector
        if detector is not None and statistics is not None:
            out_of_distribution = detector.distance(statistics) > detector.limit
    # No training photo was smaller than a crop.
    if min(width, height) < card.preprocessing.crop:
        out_of_distribution = True
    if shown:
        value, crop_std = label.show(value), label.show_width(crop_std)
        if mos_low is not None and mos_high is not None:
            mos_low, mos_high = sorted((label.show(mos_low), label.show(mos_high)))
    return QualityScore(
        value,
        crop_std,
        answers_K.size,
        width,
        height,
        percentile,
        mos_low,
        mos_high,
        out_of_distribution,
    )
