"""Views of a photo for estimating causes of low quality: tiles of its pixels, and a thumbnail.

A model's working size hides blur, noise and blocks, so tiles are cut from the decoded pixels, at
positions that are spread over every photo in the same way. The thumbnail shows light and color.

Degradations were rated by people who saw whole pictures on a screen. The tiles of a photo whose
shorter side has at least `2 * LEAST` pixels are therefore cut at a half, a quarter ... of its size,
so that `LEAST` to `2 * LEAST` pixels remain.

Shapes: T tiles, S side of a tile, H and W pixels, 3 colors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.preprocess import reflection_padded

TILE = 64  # pixels per side of a tile
GRID = 4  # tiles per row and per column
TILES = GRID**2 - 4  # tiles used for scoring
WHOLE = 64  # pixels per side of the thumbnail
LEAST = 576  # least pixels of the shorter side after reduction

Place = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """The views of a photo.

    Attributes:
        tiles: tiles (T, S, S, 3), uint8.
        whole: the photo as a thumbnail (WHOLE, WHOLE, 3), uint8; its aspect ratio is not kept.
    """

    tiles: Bytes
    whole: Bytes


def reduction(height: int, width: int) -> int:
    """The factor by which a photo is reduced for tiles: a power of two."""
    times = 1
    while min(height, width) >= 2 * times * LEAST:
        times *= 2
    return times


def places(height: int, width: int, draw: np.random.Generator | None = None) -> Iterator[Place]:
    """Yields top and left of each tile: one at a random position in each cell of a grid.

    For scoring, positions are fixed, and the four corners, which are least informative, are left
    out.

    Args:
        height: height of the photo in pixels.
        width: width of the photo in pixels.
        draw: random generator for the positions; None takes the fixed positions for scoring.
    """
    shares = _SHARES if draw is None else draw.random((GRID, GRID, 2))
    for row in range(GRID):
        for column in range(GRID):
            if draw is None and row in _OUTER and column in _OUTER:
                continue
            down, across = shares[row, column]
            yield (
                int((row + down) / GRID * max(0, height - TILE)),
                int((column + across) / GRID * max(0, width - TILE)),
            )


_OUTER = (0, GRID - 1)
# Fixed random positions in the middle half of each cell, which fall on all phases of blocks.
_SHARES = 0.25 + np.random.default_rng(0).random((GRID, GRID, 2)) / 2


def views_of(pixels_HWC: Bytes, small_HWC: Bytes, draw: np.random.Generator | None = None) -> Views:
    """The views of a photo in memory.

    Args:
        pixels_HWC: the photo, uint8.
        small_HWC: the photo at a model's working size.
        draw: see `places`.
    """
    height, width = pixels_HWC.shape[:2]

    def part(top: int, left: int, bottom: int, right: int) -> Bytes:
        return pixels_HWC[top:bottom, left:right]

    return Views(tiles(part, (height, width), draw=draw), whole(small_HWC))


def tiles(
    part: Callable[[int, int, int, int], Bytes],
    size: tuple[int, int],
    own: tuple[int, int] | None = None,
    *,
    decoded: int = 1,
    draw: np.random.Generator | None = None,
) -> Bytes:
    """Cuts the tiles of a photo.

    Args:
        part: returns the pixels (H, W, 3) between top, left, bottom and right.
        size: height and width of the decoded photo in pixels.
        own: height and width of the original photo; None if it was not reduced in decoding.
        decoded: factor by which decoding reduced each side.
        draw: see `places`.
    """
    times = max(1, reduction(*(own or size)) // decoded)
    height, width = (side // times for side in size)
    found = []
    for top, left in places(height, width, draw):
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        pixels_HWC = part(top * times, left * times, bottom * times, right * times)
        if times > 1:
            pixels_HWC = _averaged(pixels_HWC, times)
        padded_CHW = reflection_padded(pixels_HWC.transpose(2, 0, 1), TILE)
        found.append(padded_CHW.transpose(1, 2, 0))
    return np.stack(found)


def whole(small_HWC: Bytes) -> Bytes:
    """The whole photo reduced to `WHOLE` pixels per side by area averaging."""
    image = Image.fromarray(np.ascontiguousarray(small_HWC))
    return np.asarray(image.resize((WHOLE, WHOLE), Image.Resampling.BOX))


def _averaged(pixels_HWC: Bytes, times: int) -> Bytes:
    """Averages pixels over squares of `times` pixels per side."""
    height, width = (side // times for side in pixels_HWC.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
