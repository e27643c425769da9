"""Pixel statistics of an image, to distinguish photos from other images.

Photos share natural scene statistics (Ruderman, 1994; Mittal et al., 2012) that drawings, text,
flat colors and pure noise lack: neighbors are similar but rarely equal, edges are few and strong,
contrast is about the same at every scale, and there are many colors.

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
"""Names of the statistics, in order."""

_LEVELS = 255
_WHITE = 3 * _LEVELS
_FLOOR = 1 / _LEVELS / 4  # keeps logarithms finite; smaller than a difference of one level

# Gray is the sum of three colors: integers are exact, and small ones are fast.
Gray = npt.NDArray[np.int16]


def pixel_statistics(pixels_3HW: Bytes) -> Doubles:
    """Computes the pixel statistics of an image.

    Args:
        pixels_3HW: 8-bit RGB (3, H, W) of any size.

    Returns:
        One finite float64 number per name in `NAMES`, in units of the full value range:

        * shares of equal neighbors, horizontally and vertically;
        * mean and log standard deviation of the brightness, shares of black and white pixels;
        * mean difference between a pixel's largest and smallest color value;
        * log mean gradient, and log of its root mean square over its mean, which is larger for few
          strong edges than for many weak ones;
        * log mean second difference over the gradient, which measures fine grain;
        * log mean gradient at half and at quarter size, over that at full size;
        * log of horizontal over vertical gradient;
        * log number of different colors, and the share of the most common one.
    """
    pixels_3HW = np.ascontiguousarray(pixels_3HW)
    gray_HW: Gray = pixels_3HW.sum(0, dtype=np.int16)
    across_Hw, down_hW = np.diff(gray_HW, axis=1), np.diff(gray_HW, axis=0)
    mean_gradient = _mean_size(across_Hw, down_hW)
    second = _mean_size(np.diff(across_Hw, axis=1), np.diff(down_hW, axis=0))
    half_hw = _halved(gray_HW)  # sums of four pixels, so gradients are divided by four
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
    """Share of neighbors that are equal in all colors."""
    red, green, blue = (one == other for one, other in zip(ones, others, strict=True))
    return _share(red & green & blue)


def _color_counts(pixels_3HW: Bytes) -> npt.NDArray[np.int64]:
    """Number of pixels of each color, at 4 bits per channel."""
    # The nearest of 16 levels is (value + 8) // 17; for bytes, it is this product shifted by 12.
    levels_3HW = np.add(pixels_3HW, 8, dtype=np.uint16) * np.uint16(241) >> np.uint16(12)
    red_HW, green_HW, blue_HW = levels_3HW
    codes_HW = red_HW << np.uint16(8) | green_HW << np.uint16(4) | blue_HW
    return np.bincount(codes_HW.ravel())


def _halved(gray_HW: Gray) -> Gray:
    """Sums of 2 x 2 pixels; empty if the result would have no gradient."""
    if min(gray_HW.shape) < 4:
        return np.zeros((0, 0), np.int16)
    height, width = (side // 2 * 2 for side in gray_HW.shape)
    rows = gray_HW[:height:2, :width] + gray_HW[1:height:2, :width]
    return np.asarray(rows[:, ::2] + rows[:, 1::2])


def _mean_gradient(gray_HW: Gray) -> float:
    return _mean_size(np.diff(gray_HW, axis=1), np.diff(gray_HW, axis=0))


def _mean_size(*parts: Gray) -> float:
    """Mean of all absolute values; 0 if there are none, such as for a single column of pixels."""
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
