"""Measures on the same regions of photos of one moment, to decide which photo is better.

Only differences of a measure between photos of one moment are meaningful, because their content is
the same. Nothing here is trained: `culling.ranking` weights the differences by human preference.

* Detail at four scales: the logarithm of the root mean squared difference between neighbors, minus
  the contribution of noise, in the region and in the region reduced 2, 4 and 8 times.
* Noise of luma and of color: the standard deviation in the flattest tenth of 8 x 8 blocks.
* Blockiness: how much larger steps are at the borders of JPEG blocks than elsewhere.
* Exposure: shares of black and of white pixels, and the mean; contrast and saturation.

Shapes: R regions, S side of a region, M measures.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from qfm_iqm.arrays import Bytes, Doubles, Floats

NAMES = (
    "detail 1", "detail 2", "detail 4", "detail 8", "noise", "color noise", "blockiness",
    "black", "white", "mean", "contrast", "saturation",
)  # fmt: skip
TOPICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sharpness": ("detail 1", "detail 2", "detail 4", "detail 8"),
        "noise": ("noise", "color noise"),
        "artifacts": ("blockiness",),
        "exposure": ("black", "white", "mean"),
        "color": ("contrast", "saturation"),
    }
)
"""The measures of each topic that a reason may name."""

_BLOCK = 8  # pixels per side of a block
_FLAT = 0.1  # share of the blocks that count as flat
_LEAST = 1 / 255  # steps and deviations below this are invisible
_BLACK, _WHITE = 5, 250  # limits of black and white, of 255


def measured(regions: Iterable[Bytes]) -> Doubles:
    """Measures the regions of one photo.

    Args:
        regions: pixels (3, S, S) of each region, uint8; S must be at least 16.

    Returns:
        The measures (M,) in the order of `NAMES`, averaged over the regions.
    """
    return np.asarray(np.mean([_of_region(region) for region in regions], axis=0), np.float64)


def _of_region(region_CSS: Bytes) -> Doubles:
    colors: Floats = np.divide(np.ascontiguousarray(region_CSS), 255, dtype=np.float32)
    red, green, blue = colors
    luma: Floats = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    noise = _flat_deviation(luma)
    color_noise = _flat_deviation(red - green) + _flat_deviation(blue - green)
    details: list[float] = []
    reduced = luma
    for scale in (1, 2, 4, 8):
        # Each reduction halves the noise if the noise of neighbors is independent.
        energy = _energy(reduced) - 2 * (noise / scale) ** 2
        details.append(0.5 * np.log(max(energy, 0.0) + _LEAST**2))
        reduced = _halved(reduced)
    darkest, brightest = region_CSS.max(0) <= _BLACK, region_CSS.min(0) >= _WHITE
    return np.array(
        [
            *details,
            np.log(noise + _LEAST),
            np.log(color_noise + _LEAST),
            _blockiness(luma),
            np.sqrt(darkest.mean()),
            np.sqrt(brightest.mean()),
            luma.mean(),
            np.log(luma.std() + _LEAST),
            (colors.max(0) - colors.min(0)).mean(),
        ]
    )


def _energy(gray: Floats) -> float:
    """The mean squared difference between vertical and horizontal neighbors."""
    return float(((np.diff(gray, axis=0) ** 2).mean() + (np.diff(gray, axis=1) ** 2).mean()) / 2)


def _halved(gray: Floats) -> Floats:
    """Means of 2 x 2 pixels; an odd last row or column is dropped."""
    even = gray[: gray.shape[0] // 2 * 2, : gray.shape[1] // 2 * 2]
    sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return np.asarray(sums / np.float32(4), np.float32)


def _flat_deviation(gray: Floats) -> float:
    """Standard deviation from the neighbors' mean in the flattest blocks."""
    rows, columns = (length // _BLOCK for length in gray.shape)
    residual = gray.copy()
    residual[1:-1, 1:-1] -= (
        gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    ) / 4
    blocks = residual[: rows * _BLOCK, : columns * _BLOCK]
    inner = blocks.reshape(rows, _BLOCK, columns, _BLOCK)[:, 1:-1, :, 1:-1]  # without edges
    deviation = inner.std((1, 3)).ravel()
    flattest = np.sort(deviation)[: max(1, int(_FLAT * deviation.size))]
    return float(flattest.mean() / np.sqrt(1.25))  # white noise has a residual variance of 1 + 1/4


def _blockiness(luma: Floats) -> float:
    """The logarithm of steps at the most likely block borders, over steps elsewhere."""
    found = 0.0
    for axis in (0, 1):
        # Steps relative to neighboring steps, so that smooth slopes do not count.
        steps = np.abs(np.diff(luma, axis=axis))
        steps = np.moveaxis(steps, axis, 0)
        extra = np.maximum(steps[1:-1] - (steps[:-2] + steps[2:]) / 2, 0).mean(1)
        length = extra.size // _BLOCK * _BLOCK
        by_phase = extra[:length].reshape(-1, _BLOCK).mean(0)
        found += float(np.log((by_phase.max() + 1e-4) / (np.median(by_phase) + 1e-4)))
    return found / 2
