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

Array = npt.NDArray[np.float64]

NAMES = (
    "equal_across", "equal_down", "brightness", "contrast", "dark", "bright", "chroma",
    "gradient", "sparsity", "roughness", "coarser", "coarsest", "anisotropy",
    "colours", "commonest",
)  # fmt: skip
"""Of the statistics, in their order."""

_LEVEL = 1 / 255
_FLOOR = _LEVEL / 4  # below any 8-bit difference: logarithms stay finite
_COLOUR_LEVELS = 16  # a colour, for counting: 4 bits of each channel


def pixel_statistics(image_3HW: npt.NDArray[np.float32]) -> Array:
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
    grey_HW = image_3HW.mean(0, dtype=np.float64)
    across_3Hw = np.abs(np.diff(image_3HW, axis=2))
    down_3hW = np.abs(np.diff(image_3HW, axis=1))
    across_Hw, down_hW = np.abs(np.diff(grey_HW, axis=1)), np.abs(np.diff(grey_HW, axis=0))
    gradients = _joined(across_Hw, down_hW)
    mean_gradient = _mean(gradients)
    second = _joined(np.diff(grey_HW, n=2, axis=1), np.diff(grey_HW, n=2, axis=0))
    levels_3HW = (image_3HW * (_COLOUR_LEVELS - 1) + np.float32(0.5)).astype(np.int64)
    codes = (levels_3HW[0] * _COLOUR_LEVELS + levels_3HW[1]) * _COLOUR_LEVELS + levels_3HW[2]
    counts = np.bincount(codes.clip(0, _COLOUR_LEVELS**3 - 1).ravel())
    return np.array(
        [
            _mean(across_3Hw.max(0) < _LEVEL / 2),
            _mean(down_3hW.max(0) < _LEVEL / 2),
            grey_HW.mean(),
            _log(grey_HW.std()),
            _mean(grey_HW < _LEVEL),
            _mean(grey_HW > 1 - _LEVEL),
            _mean(image_3HW.max(0) - image_3HW.min(0)),
            _log(mean_gradient),
            _log(_mean(gradients**2) ** 0.5) - _log(mean_gradient),
            _log(_mean(np.abs(second))) - _log(mean_gradient),
            _log(_mean_gradient(grey_HW, 2)) - _log(mean_gradient),
            _log(_mean_gradient(grey_HW, 4)) - _log(mean_gradient),
            _log(_mean(across_Hw)) - _log(_mean(down_hW)),
            math.log((counts > 0).sum()),
            counts.max() / codes.size,
        ]
    )


def _mean_gradient(grey_HW: Array, factor: int) -> float:
    """The mean gradient of the image reduced by area."""
    if min(grey_HW.shape) < 2 * factor:
        return 0.0
    height, width = (side // factor for side in grey_HW.shape)
    cells = grey_HW[: height * factor, : width * factor].reshape(height, factor, width, factor)
    small_hw = cells.mean((1, 3))
    return _mean(np.abs(_joined(np.diff(small_hw, axis=1), np.diff(small_hw, axis=0))))


def _joined(*parts: Array) -> Array:
    return np.concatenate([part.ravel() for part in parts])


def _mean(values: npt.NDArray[Any]) -> float:
    """The mean; 0 of nothing, as an image one pixel wide has no neighbours."""
    return float(values.mean(dtype=np.float64)) if values.size else 0.0


def _log(value: float) -> float:
    return math.log(value + _FLOOR)
