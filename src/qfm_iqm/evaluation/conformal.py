"""Intervals that hold as often as they say: split conformal prediction.

From held-out images with scores s and labels y, the reach r of an interval [s - r, s + r] is the
smallest that holds ceil((n + 1) level) of the n labels. Then it holds the label of a further image
of the same kind with a probability of at least `level`, whatever the scores are worth (Vovk et
al., 2005; Lei et al., 2018).

One reach serves all scores. Reaches that depend on the score, learned from half of the images, were
tried on the default model's validation part: no narrower at the same coverage.

Arrays: N images.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qfm_iqm.errors import TableError


def conformal_reach(errors: npt.ArrayLike, level: float) -> float:
    """The reach that holds the label of a further image with a probability of `level`.

    Args:
        errors: label minus score (N,), of images that neither trained nor selected the model.
        level: above 0 and below 1.

    Raises:
        TableError: too few images for that level.
    """
    sizes = np.sort(np.abs(np.asarray(errors, dtype=np.float64)))
    place = math.ceil((sizes.size + 1) * level - 1e-9)
    if place > sizes.size:
        needed = math.ceil(level / (1 - level) - 1e-9)
        raise TableError(
            f"An interval for {level:.0%} of images needs at least {needed} rated images, "
            f"and there are {sizes.size}."
        )
    return float(sizes[place - 1])


def coverage(labels: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[float, float]:
    """Share of labels (N,) that intervals [low, high] hold, and the intervals' mean width."""
    y, bottom, top = (np.asarray(column, dtype=np.float64) for column in (labels, low, high))
    return float(((bottom <= y) & (y <= top)).mean()), float((top - bottom).mean())
