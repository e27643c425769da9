"""What the pixels of an image are like, in a few numbers: to tell photos from what is none.

Photos share statistics that drawings, text, flat colours and pure noise lack (natural scene
statistics: Ruderman, 1994; Mittal et al., 2012): neighbours are alike but rarely equal, edges are
few and strong, every scale holds about as much contrast as the next, colours are many.

Shapes: H and W pixels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qfm_iqm.image.decode import Bytes

NAMES = (
    "equal_across", "equal_down", "brightness", "contrast", "dark", "bright", "chroma",
    "gradient", "sparsity", "roughness", "coarser", "coarsest", "anisotropy",
    "colours", "commonest",
)  # fmt: skip
"""Of the statistics, in their order."""

_LEVELS = 255
_WHITE = 3 * _LEVELS
_FLOOR = 1 / _LEVELS / 4  # below any difference of one level: logarithms stay finite

# Sums of three colours, kept as such: integers are exact, and small ones fast.
Grey = npt.NDArray[np.int16]


def pixel_statistics(pixels_3HW: Bytes) -> npt.NDArray[np.float64]:
    """Measures an image.

    Args:
        pixels_3HW: RGB (3, H, W) in 8 bits, of any size from 1x1 on.

    Returns:
        As many numbers as `NAMES`, float64, all finite, in units of the whole range:

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
    pixels_3HW = np.ascontiguousarray(pixels_3HW)
    grey_HW: Grey = pixels_3HW.sum(0, dtype=np.int16)
    across_Hw, down_hW = np.diff(grey_HW, axis=1), np.diff(grey_HW, axis=0)
    mean_gradient = _mean_size(across_Hw, down_hW)
    second = _mean_size(np.diff(across_Hw, axis=1), np.diff(down_hW, axis=0))
    half_hw = _halved(grey_HW)  # sums of four: their gradients are divided by as many
    quarter_hw = _halved(half_hw)
    counts = _colour_counts(pixels_3HW)
    return np.array(
        [
            _equal(pixels_3HW[:, :, 1:], pixels_3HW[:, :, :-1]),
            _equal(pixels_3HW[:, 1:], pixels_3HW[:, :-1]),
            int(grey_HW.sum(dtype=np.int64)) / grey_HW.size / _WHITE,
            _log(_deviation(grey_HW)),
            _share(grey_HW < 3),
            _share(grey_HW > _WHITE - 3),
            (pixels_3HW.max(0) - pixels_3HW.min(0)).mean() / _LEVELS,
            _log(mean_gradient),
            _log(_root_mean_square(across_Hw, down_hW)) - _log(mean_gradient),
            _log(second) - _log(mean_gradient),
            _log(_mean_gradient(half_hw) / 4) - _log(mean_gradient),
            _log(_mean_gradient(quarter_hw) / 16) - _log(mean_gradient),
            _log(_mean_size(across_Hw)) - _log(_mean_size(down_hW)),
            math.log((counts > 0).sum()),
            counts.max() / grey_HW.size,
        ]
    )


def _equal(ones: Bytes, others: Bytes) -> float:
    """The share of neighbours that are equal in all colours."""
    red, green, blue = (one == other for one, other in zip(ones, others, strict=True))
    return _share(red & green & blue)


def _colour_counts(pixels_3HW: Bytes) -> npt.NDArray[np.int64]:
    """How many pixels have each colour, of 4 bits a channel."""
    # The nearest of 16 levels is (value + 8) // 17: for bytes, this product without its last bits.
    levels_3HW = np.add(pixels_3HW, 8, dtype=np.uint16) * np.uint16(241) >> np.uint16(12)
    red_HW, green_HW, blue_HW = levels_3HW
    codes_HW = red_HW << np.uint16(8) | green_HW << np.uint16(4) | blue_HW
    return np.bincount(codes_HW.ravel())


def _halved(grey_HW: Grey) -> Grey:
    """Sums of two by two pixels; nothing of an image that would have no gradient left."""
    if min(grey_HW.shape) < 4:
        return np.zeros((0, 0), np.int16)
    height, width = (side // 2 * 2 for side in grey_HW.shape)
    rows = grey_HW[:height:2, :width] + grey_HW[1:height:2, :width]
    return np.asarray(rows[:, ::2] + rows[:, 1::2])


def _mean_gradient(grey_HW: Grey) -> float:
    return _mean_size(np.diff(grey_HW, axis=1), np.diff(grey_HW, axis=0))


def _mean_size(*parts: Grey) -> float:
    """The mean of all absolute values; 0 of nothing: one column of pixels has no neighbours."""
    count = sum(part.size for part in parts)
    return sum(int(np.abs(part).sum(dtype=np.int64)) for part in parts) / max(count, 1) / _WHITE


def _deviation(grey_HW: Grey) -> float:
    count, total = grey_HW.size, int(grey_HW.sum(dtype=np.int64))
    return math.sqrt(count * _squares(grey_HW) - total**2) / count / _WHITE


def _root_mean_square(*parts: Grey) -> float:
    count = sum(part.size for part in parts)
    return math.sqrt(sum(_squares(part) for part in parts) / max(count, 1)) / _WHITE


def _squares(values: Grey) -> int:
    return int(np.square(values, dtype=np.int32).sum(dtype=np.int64))


def _share(marks: npt.NDArray[np.bool_]) -> float:
    return np.count_nonzero(marks) / max(marks.size, 1)


def _log(value: float) -> float:
    return math.log(value + _FLOOR)
