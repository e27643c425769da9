"""Where an image is good or bad: the score of each region, seen alone.

A region is a quarter of a crop: a square of half its side, padded by reflection to a whole crop,
so that the network sees this part of the image and nothing else, at the scale it knows. Regions
overlap by half. Between the regions' middles the map is linear, patch by patch; in the end it is
shifted as a whole so that its mean is the image's score: the map says where, the score how much.

Cheaper ways were measured beside this one: asking the decoder about the tokens of a window alone,
weighing that by its attention, the gradient by each token, leaving a patch out. They work where
tokens are local, in small convolutional networks, and hardly better than chance in vision
transformers, whose every token has seen the whole crop (benchmarks/quality_map.py).

Shapes: S crop size; T x L regions; R rows and C columns of the map, a patch each.
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
        values: float32 (R, C), a value for each patch of the whole upright image, row by row from
            the top left, on the scale of the scores; their mean is `score`, but for what a
            calibration bends or the scale's ends cut off.
        score: of the image, as `QualityModel.score` gives it.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.

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
        tops: of the rows of regions, in pixels, ascending.
        lefts: of the columns of regions.
        side: of a region, half a crop.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    side: int

    def crops(self, resized_CHW: Tensor, size: int) -> Iterator[Tensor]:
        """Each region as a crop (C, S, S), row by row: mirrored to the right and downwards."""
        for top in self.tops:
            for left in self.lefts:
                part = resized_CHW[:, top : top + self.side, left : left + self.side]
                wide = torch.cat([part, part.flip(-1)], -1)
                yield torch.cat([wide, wide.flip(-2)], -2)[:, :size, :size]

    def spread(self, values_TL: Doubles, size: tuple[int, int], cells: tuple[int, int]) -> Doubles:
        """The map (R, C) of an image of `size` (height, width): linear between middles."""
        down_RT, across_CL = (
            _between(starts, self.side, length, count)
            for starts, length, count in zip((self.tops, self.lefts), size, cells, strict=True)
        )
        return np.asarray(down_RT @ values_TL @ across_CL.T)


def regions(height: int, width: int, crop: int) -> Regions:
    """Evenly spread regions that cover an image and overlap by half or more.

    Args:
        height: in pixels.
        width: in pixels.
        crop: S of the network.
    """
    side = (crop + 1) // 2
    return Regions(_starts(height, side), _starts(width, side), side)


def cells(length: int, crop: int, patches: int) -> int:
    """How many cells of a map divide a length: as large as the patches of a crop, or nearly."""
    return max(1, round(length * patches / crop))


def _starts(length: int, side: int) -> tuple[int, ...]:
    if length <= side:
        return (0,)
    count = 1 - (side - length) // ((side + 1) // 2)
    return tuple(round(i * (length - side) / (count - 1)) for i in range(count))


def _between(starts: tuple[int, ...], side: int, length: int, count: int) -> Doubles:
    """Weights (cells, regions) of linear interpolation at the cells' middles, flat beyond."""
    middles = np.array(starts) + min(side, length) / 2
    places = (np.arange(count) + 0.5) * length / count
    return np.stack([np.interp(places, middles, unit) for unit in np.eye(len(starts))], axis=1)
