"""What the pixels of an image are like, in a few numbers: to tell photos from what is none.

Photos share statistics that drawings, text, flat colours and pure noise lack (natural scene
statistics: Ruderman, 1994; Mittal et al., 2012): neighbours are alike but rarely equal, edges are
few and strong, every scale holds about as much contrast as the next, colours are many.

Shapes: H and W pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.image.cropping import Floats

NAMES = (
    "equal_across", "equal_down", "brightness", "contrast", "dark", "bright", "chroma",
    "gradient", "sparsity", "roughness", "coarser", "coarsest", "anisotropy",
    "colours", "commonest",
)  # fmt: skip
"""Of the statistics, in their order."""

_LEVEL = 1 / 255
_FLOOR = _LEVEL / 4  # below any 8-bit difference: logarithms stay finite
_COLOUR_LEVELS = 16  # a colour, for counting: 4 bits of each channel


def pixel_statistics(image_3HW: Floats) -> npt.NDArray[np.float64]:
    """Measures an image.

    Args:
        image_3HW: RGB (3, H, W) in [0, 1], of any size from 1x1 on.

    Returns:
        As many numbers as `NAMES`, float64, all finite:

        * shares of neighbours that are equal, side by side and one above the other;
        * mean and (log) standard deviation of the brightness, shares of black and white pixels;
        * mean distance between the largest and the smallest colour of a pixel;
        * log mean gradient; log of its root mean square over its mean: few strong edges, or many
          weak ones;
        * log mean second difference over the gradient: fine grain;
        * log mean gradient at a half and at a quarter of the size, over that at full size;
        * log of horizontal over vertical gradient;
        * log number of different colours, and the share of the commonest.
    """
    image_3HW = image_3HW.astype(np.float32, copy=False)
    grey_HW = image_3HW.mean(0)
    across_Hw, down_hW = np.diff(grey_HW, axis=1), np.diff(grey_HW, axis=0)
    mean_gradient = _mean_size(across_Hw, down_hW)
    second = _mean_size(np.diff(across_Hw, axis=1), np.diff(down_hW, axis=0))
    half_hw = _halved(grey_HW)
    levels_3HW = (image_3HW * (_COLOUR_LEVELS - 1) + np.float32(0.5)).astype(np.int16)
    codes = (levels_3HW[0] * _COLOUR_LEVELS + levels_3HW[1]) * _COLOUR_LEVELS + levels_3HW[2]
    counts = np.bincount(codes.clip(0, _COLOUR_LEVELS**3 - 1).ravel())
    return np.array(
        [
            _equal(image_3HW, axis=2),
            _equal(image_3HW, axis=1),
            grey_HW.mean(dtype=np.float64),
            _log(grey_HW.std(dtype=np.float64)),
            _mean(grey_HW < _LEVEL),
            _mean(grey_HW > 1 - _LEVEL),
            _mean(image_3HW.max(0) - image_3HW.min(0)),
            _log(mean_gradient),
            _log(_root_mean_square(across_Hw, down_hW)) - _log(mean_gradient),
            _log(second) - _log(mean_gradient),
            _log(_mean_gradient(half_hw)) - _log(mean_gradient),
            _log(_mean_gradient(_halved(half_hw))) - _log(mean_gradient),
            _log(_mean_size(across_Hw)) - _log(_mean_size(down_hW)),
            math.log((counts > 0).sum()),
            counts.max() / codes.size,
        ]
    )


def _equal(image_3HW: Floats, axis: int) -> float:
    """The share of neighbours that are equal in all colours."""
    steps = np.abs(np.diff(image_3HW, axis=axis))
    return _mean(steps.max(0) < _LEVEL / 2)


def _halved(grey_HW: Floats) -> Floats:
    """The image reduced to a half by area; nothing of one that would have no gradient left."""
    if min(grey_HW.shape) < 4:
        return np.zeros((0, 0), np.float32)
    height, width = (side // 2 * 2 for side in grey_HW.shape)
    rows = grey_HW[:height:2, :width] + grey_HW[1:height:2, :width]
    return np.asarray((rows[:, ::2] + rows[:, 1::2]) / np.float32(4))


def _mean_gradient(grey_HW: Floats) -> float:
    return _mean_size(np.diff(grey_HW, axis=1), np.diff(grey_HW, axis=0))


def _mean_size(*parts: Floats) -> float:
    """The mean of all absolute values; 0 of nothing: one column of pixels has no neighbours."""
    count = sum(part.size for part in parts)
    return sum(float(np.abs(part).sum(dtype=np.float64)) for part in parts) / max(count, 1)


def _root_mean_square(*parts: Floats) -> float:
    count = sum(part.size for part in parts)
    squares = sum(float(np.square(part).sum(dtype=np.float64)) for part in parts)
    return math.sqrt(squares / max(count, 1))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0


def _log(value: float) -> float:
    return math.log(value + _FLOOR)
