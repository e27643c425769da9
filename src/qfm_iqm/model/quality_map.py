"""Quality map: where an image is good or bad, from scores of single regions.

A region is a square of half a crop's side, reflection-padded to a whole crop, so that the network
sees only this region, at its usual scale. Regions overlap by half. The map is interpolated linearly
between the centers of regions, one value per patch, and then shifted so that its mean is the
image's score.

Cheaper methods were measured too: decoding only the tokens of a window, weighting that by
attention, the gradient for each token, leaving out a patch. They work in small convolutional
networks, where tokens are local, but are hardly better than chance in vision transformers, where
every token has seen the whole crop (benchmarks/quality_map.py).

Shapes: S crop size; T x L regions; R rows and C columns of the map, one cell per patch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.arrays import Doubles, Floats


@dataclass(frozen=True, eq=False)
class QualityMap:
    """Where an image is good and where it is bad.

    Attributes:
        values: float32 (R, C), one value per patch of the upright image, row by row from the top
            left, on the scale of scores. Their mean is `score`, except for the effects of
            calibration and clipping.
        score: the image's score, as from `QualityModel.score`.
        width: width of the upright image in pixels.
        height: height of the upright image in pixels.

    Examples:
        >>> from qfm_iqm import load_model
        >>> found = load_model().explain(torch.rand(3, 300, 400))
        >>> found.width, found.height
        (400, 300)
    """

    values: Floats
    score: float
    width: int
    height: int


@dataclass(frozen=True)
class Regions:
    """The regions of a resized image.

    Attributes:
        tops: first pixel row of each row of regions, ascending.
        lefts: first pixel column of each column of regions, ascending.
        side: side of a region in pixels: half a crop.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    side: int

    def crops(self, resized_CHW: Tensor, size: int) -> Iterator[Tensor]:
        """Each region as a crop (C, S, S), row by row, mirrored to the right and downwards."""
        for top in self.tops:
            for left in self.lefts:
                part = resized_CHW[:, top : top + self.side, left : left + self.side]
                wide = torch.cat([part, part.flip(-1)], -1)
                yield torch.cat([wide, wide.flip(-2)], -2)[:, :size, :size]

    def spread(self, values_TL: Doubles, size: tuple[int, int], cells: tuple[int, int]) -> Doubles:
        """The map (R, C) of an image of `size` (height, width), linear between region centers."""
        down_RT, across_CL = (
            _between(starts, self.side, length, count)
            for starts, length, count in zip((self.tops, self.lefts), size, cells, strict=True)
        )
        return np.asarray(down_RT @ values_TL @ across_CL.T)


def regions(height: int, width: int, crop: int) -> Regions:
    """Evenly spread regions that cover an image and overlap by half or more.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        crop: crop size S of the network.
    """
    side = (crop + 1) // 2
    return Regions(_starts(height, side), _starts(width, side), side)


def cells(length: int, crop: int, patches: int) -> int:
    """Number of map cells along a length; a cell is about as large as a patch of a crop."""
    return max(1, round(length * patches / crop))


def _starts(length: int, side: int) -> tuple[int, ...]:
    if length <= side:
        return (0,)
    count = 1 - (side - length) // ((side + 1) // 2)
    return tuple(round(i * (length - side) / (count - 1)) for i in range(count))


def _between(starts: tuple[int, ...], side: int, length: int, count: int) -> Doubles:
    """Linear interpolation weights (cells, regions) at the cells' centers, constant beyond."""
    middles = np.array(starts) + min(side, length) / 2
    places = (np.arange(count) + 0.5) * length / count
    return np.stack([np.interp(places, middles, unit) for unit in np.eye(len(starts))], axis=1)
