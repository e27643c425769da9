"""What tells why a photo is good or bad: small tiles of its own pixels, and the whole photo, small.

A model's working size hides blur, noise and blocks. So tiles are cut from the pixels as they were
decoded, at places that are spread over the photo alike for every photo, whatever its format. Light
and color are seen in the whole photo.

Opinions of degradations are those of people who saw whole pictures on a screen. So the tiles of a
photo whose shorter side has `2 * LEAST` pixels or more are cut at a half, a quarter ... of its
size: `LEAST` to `2 * LEAST` pixels remain.

Shapes: T tiles, S side of a tile, H and W pixels, 3 colors.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.preprocess import reflection_padded

TILE = 64  # pixels a side
GRID = 4  # tiles across, and down
TILES = GRID**2 - 4  # of a photo that is scored
WHOLE = 64  # pixels a side of the whole photo
LEAST = 576  # pixels of the shorter side

Place = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """What is seen of a photo.

    Attributes:
        tiles: (T, S, S, 3), uint8.
        whole: (WHOLE, WHOLE, 3), uint8: the photo, its aspect not kept.
    """

    tiles: Bytes
    whole: Bytes


def reduction(height: int, width: int) -> int:
    """How many times smaller a photo is seen: a power of two."""
    times = 1
    while min(height, width) >= 2 * times * LEAST:
        times *= 2
    return times


def places(height: int, width: int, draw: np.random.Generator | None = None) -> Iterator[Place]:
    """Top and left of each tile: one in each cell of a grid, anywhere there.

    Photos are scored without the four corners, which say least.

    Args:
        height: of the photo in pixels.
        width: likewise.
        draw: what the places are drawn from; None for those that every photo is scored at.
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
# In the middle half of each cell; drawn once, so that they fall on any phase of blocks.
_SHARES = 0.25 + np.random.default_rng(0).random((GRID, GRID, 2)) / 2


def views_of(pixels_HWC: Bytes, small_HWC: Bytes, draw: np.random.Generator | None = None) -> Views:
    """The views of a photo that is in memory.

    Args:
        pixels_HWC: the photo, uint8.
        small_HWC: the same, reduced to a model's working size.
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
    """Cuts the tiles.

    Args:
        part: gives the pixels (H, W, 3) between top, left, bottom and right.
        size: height and width of what was decoded, in pixels.
        own: of the photo itself; None for the same.
        decoded: how many times smaller it was decoded.
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
    """The whole photo at `WHOLE` pixels a side, by area averaging."""
    image = Image.fromarray(np.ascontiguousarray(small_HWC))
    return np.asarray(image.resize((WHOLE, WHOLE), Image.Resampling.BOX))


def _averaged(pixels_HWC: Bytes, times: int) -> Bytes:
    """Pixels averaged over squares of so many a side."""
    height, width = (side // times for side in pixels_HWC.shape[:2])
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
