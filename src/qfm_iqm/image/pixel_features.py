"""What the pixels of an image are like, in a few numbers: to tell photos from what is none.

Photos share statistics that drawings, text, flat colors and pure noise lack (natural scene
statistics: Ruderman, 1994; Mittal et al., 2012): neighbors are alike but rarely equal, edges are
few and strong, every scale holds about as much contrast as the next, colors are many.

Shapes: H and W pixels.
"""

import math

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Bytes, Doubles

NAMES = (
    "equal_across", "equal_down", "brightness", "contrast", "dark", "bright", "chroma",
    "gradient", "sparsity", "roughness", "coarser", "coarsest", "anisotropy",
    "colors", "commonest",
)  # fmt: skip
"""Of the statistics, in their order."""

_LEVELS = 255
_WHITE = 3 * _LEVELS
_FLOOR = 1 / _LEVELS / 4  # below any difference of one level: logarithms stay finite

# Sums of three colors, kept as such: integers are exact, and small ones fast.
Gray = npt.NDArray[np.int16]


def pixel_statistics(pixels_3HW: Bytes) -> Doubles:
    """Measures an image.

    Args:
        pixels_3HW: RGB (3, H, W) in 8 bits, of any size from 1x1 on.

    Returns:
        As many numbers as `NAMES`, float64, all finite, in units of the whole range:

        * shares of neighbors that are equal, side by side and one above the other;
        * mean and (log) standard deviation of the brightness, shares of black and white pixels;
        * mean distance between the largest and the smallest color of a pixel;
        * log mean gradient; log of its root mean square over its mean: few strong edges, or many
          weak ones;
        * log mean second difference over the gradient: fine grain;
        * log mean gradient at a half and at a quarter of the size, over that at full size;
        * log of horizontal over vertical gradient;
        * log number of different colors, and the share of the commonest.
    """
    pixels_3HW = np.ascontiguousarray(pixels_3HW)
    gray_HW: Gray = pixels_3HW.sum(0, dtype=np.int16)
    across_Hw, down_hW = np.diff(gray_HW, axis=1), np.diff(gray_HW, axis=0)
    mean_gradient = _mean_size(across_Hw, down_hW)
    second = _mean_size(np.diff(across_Hw, axis=1), np.diff(down_hW, axis=0))
    half_hw = _halved(gray_HW)  # sums of four: their gradients are divided by as many
    quarter_hw = _halved(half_hw)
    counts = _color_counts(pixels_3HW)
    return np.array(
        [
            _equal(pixels_3HW[:, :, 1:], pixels_3HW[:, :, :-1]),
            _equal(pixels_3HW[:, 1:], pixels_3HW[:, :-1]),
            int(gray_HW.sum(dtype=np.int64)) / gray_HW.size / _WHITE,
            _log(_deviation(gray_HW)),
            _share(gray_HW < 3),
            _share(gray_HW > _WHITE - 3),
            (pixels_3HW.max(0) - pixels_3HW.min(0)).mean() / _LEVELS,
            _log(mean_gradient),
            _log(_root_mean_square(across_Hw, down_hW)) - _log(mean_gradient),
            _log(second) - _log(mean_gradient),
            _log(_mean_gradient(half_hw) / 4) - _log(mean_gradient),
            _log(_mean_gradient(quarter_hw) / 16) - _log(mean_gradient),
            _log(_mean_size(across_Hw)) - _log(_mean_size(down_hW)),
            math.log((counts > 0).sum()),
            counts.max() / gray_HW.size,
        ]
    )


def _equal(ones: Bytes, others: Bytes) -> float:
    """The share of neighbors that are equal in all colors."""
    red, green, blue = (one == other for one, other in zip(ones, others, strict=True))
    return _share(red & green & blue)


def _color_counts(pixels_3HW: Bytes) -> npt.NDArray[np.int64]:
    """How many pixels have each color, of 4 bits a channel."""
    # The nearest of 16 levels is (value + 8) // 17: for bytes, this product without its last bits.
    levels_3HW = np.add(pixels_3HW, 8, dtype=np.uint16) * np.uint16(241) >> np.uint16(12)
    red_HW, green_HW, blue_HW = levels_3HW
    codes_HW = red_HW << np.uint16(8) | green_HW << np.uint16(4) | blue_HW
    return np.bincount(codes_HW.ravel())


def _halved(gray_HW: Gray) -> Gray:
    """Sums of two by two pixels; nothing of an image that would have no gradient left."""
    if min(gray_HW.shape) < 4:
        return np.zeros((0, 0), np.int16)
    height, width = (side // 2 * 2 for side in gray_HW.shape)
    rows = gray_HW[:height:2, :width] + gray_HW[1:height:2, :width]
    return np.asarray(rows[:, ::2] + rows[:, 1::2])


def _mean_gradient(gray_HW: Gray) -> float:
    return _mean_size(np.diff(gray_HW, axis=1), np.diff(gray_HW, axis=0))


def _mean_size(*parts: Gray) -> float:
    """The mean of all absolute values; 0 of nothing: one column of pixels has no neighbors."""
    count = sum(part.size for part in parts)
    return sum(int(np.abs(part).sum(dtype=np.int64)) for part in parts) / max(count, 1) / _WHITE


def _deviation(gray_HW: Gray) -> float:
    count, total = gray_HW.size, int(gray_HW.sum(dtype=np.int64))
    return math.sqrt(count * _squares(gray_HW) - total**2) / count / _WHITE


def _root_mean_square(*parts: Gray) -> float:
    count = sum(part.size for part in parts)
    return math.sqrt(sum(_squares(part) for part in parts) / max(count, 1)) / _WHITE


def _squares(values: Gray) -> int:
    return int(np.square(values, dtype=np.int32).sum(dtype=np.int64))


def _share(marks: npt.NDArray[np.bool_]) -> float:
    return np.count_nonzero(marks) / max(marks.size, 1)


def _log(value: float) -> float:
    return math.log(value + _FLOOR)
