"""Finds the same regions in several photos of one moment, at native resolution.

The photos are aligned by shifts from phase correlation, first of the whole photos at a small size,
then of each region, so that small camera movements do not matter. A photo of another size is
resized to the first one's size, region by region.

Shapes: C colors (3), H and W pixels, R regions, S side of a region.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

from qfm_iqm.arrays import Bytes, Floats

SIDE = 256  # largest side of a region in pixels
LEAST_SIDE = 16  # smallest side of a photo in pixels
MOST = 4  # largest number of regions
_SMALL = 192  # pixels of the longer side at which whole photos are aligned
_MARGIN = 0.05  # share of a side that is avoided, because shifted photos may not show it
_FARTHEST = 0.3  # largest shift, as a share of a side
_CENTER_BONUS = 1.5  # factor on the detail of regions near the center


class Regions:
    """Regions of a first photo that are then found in others.

    The most detailed squares of a grid are chosen, with a preference for the center, because blur
    and noise are visible in detail.

    Args:
        pixels_CHW: the first photo, (3, H, W), uint8; each side has at least `LEAST_SIDE` pixels.

    Attributes:
        corners: top and left of each region, in pixels of the first photo.
        side: side S in pixels: `SIDE`, or a third of the shorter side of a small photo.
    """

    def __init__(self, pixels_CHW: Bytes) -> None:
        self._height, self._width = pixels_CHW.shape[1:]
        shorter = min(self._height, self._width)
        self.side = min(SIDE, max(shorter // 3, LEAST_SIDE))
        self._small = _reduced(pixels_CHW, self._height, self._width)
        self.corners = self._most_detailed(pixels_CHW)
        self._patches = [self._cut(pixels_CHW, *corner)[1].copy() for corner in self.corners]

    def of(self, pixels_CHW: Bytes) -> Iterator[Bytes]:
        """Yields the same regions of another photo of the same moment.

        Args:
            pixels_CHW: (3, H, W), uint8, of any size.

        Yields:
            Pixels (3, S, S) of each region.
        """
        small = _reduced(pixels_CHW, self._height, self._width)
        down, across = shift_between(self._small, small)
        scale = max(self._height, self._width) / max(self._small.shape)
        down, across = round(down * scale), round(across * scale)
        for (top, left), patch in zip(self.corners, self._patches, strict=True):
            near = self._cut(pixels_CHW, top + down, left + across)
            finer = shift_between(patch, near[1])
            yield self._cut(pixels_CHW, top + down + finer[0], left + across + finer[1])

    def _most_detailed(self, pixels_CHW: Bytes) -> list[tuple[int, int]]:
        """Corners of the chosen squares, most detailed first."""
        tops, lefts = (_starts(length, self.side) for length in (self._height, self._width))
        found = []
        for top in tops:
            for left in lefts:
                green = pixels_CHW[1, top : top + self.side : 2, left : left + self.side : 2]
                detail = float(np.abs(np.diff(green.astype(np.int16))).mean())
                middle = (top + self.side / 2) / self._height, (left + self.side / 2) / self._width
                central = max(abs(middle[0] - 0.5), abs(middle[1] - 0.5)) < 0.2
                found.append((detail * (_CENTER_BONUS if central else 1), (top, left)))
        found.sort(key=lambda one: (-one[0], one[1]))
        return [corner for _, corner in found[:MOST]]

    def _cut(self, pixels_CHW: Bytes, top: int, left: int) -> Bytes:
        """Cuts a square, which is moved inside the photo if it crosses an edge."""
        height, width = pixels_CHW.shape[1:]
        top = min(max(top, 0), self._height - self.side)
        left = min(max(left, 0), self._width - self.side)
        if (height, width) == (self._height, self._width):
            return pixels_CHW[:, top : top + self.side, left : left + self.side]
        down, across = height / self._height, width / self._width
        box = left * across, top * down, (left + self.side) * across, (top + self.side) * down
        # Convert only the resampled part, with a margin for the filter, to an image.
        first = max(0, int(box[0]) - 4), max(0, int(box[1]) - 4)
        part = pixels_CHW[:, first[1] : int(box[3]) + 5, first[0] : int(box[2]) + 5]
        image = Image.fromarray(np.ascontiguousarray(part.transpose(1, 2, 0)))
        within = (box[0] - first[0], box[1] - first[1], box[2] - first[0], box[3] - first[1])
        within = (*within[:2], min(within[2], image.width), min(within[3], image.height))
        resized = image.resize((self.side, self.side), Image.Resampling.BICUBIC, within)
        return np.asarray(resized).transpose(2, 0, 1)


def shift_between(
    first_HW: npt.NDArray[np.generic], other_HW: npt.NDArray[np.generic]
) -> tuple[int, int]:
    """Rows and columns by which the content of a gray image is shifted in another one.

    Uses phase correlation; a shift of more than `_FARTHEST` of a side counts as zero.

    Args:
        first_HW: gray image (H, W).
        other_HW: gray image of the same shape.
    """
    height, width = first_HW.shape
    first, other = (_spectrum(one) for one in (first_HW, other_HW))
    cross = np.conj(first) * other
    peaks = fft.irfft2(cross / (np.abs(cross) + np.float32(1e-9)), (height, width))
    down, across = np.unravel_index(int(peaks.argmax()), peaks.shape)
    shift = [
        int(at) - length if at > length // 2 else int(at)
        for at, length in ((down, height), (across, width))
    ]
    if abs(shift[0]) > _FARTHEST * height or abs(shift[1]) > _FARTHEST * width:
        return 0, 0
    return shift[0], shift[1]


def _spectrum(gray_HW: npt.NDArray[np.generic]) -> npt.NDArray[np.complex64]:
    """The spectrum of a gray image with a Hann window."""
    gray = gray_HW.astype(np.float32)
    found: npt.NDArray[np.complex64] = fft.rfft2((gray - gray.mean()) * _window(*gray.shape))
    return found


@lru_cache(maxsize=16)
def _window(height: int, width: int) -> Floats:
    return (np.hanning(height)[:, None] * np.hanning(width)).astype(np.float32)


def _reduced(pixels_CHW: Bytes, height: int, width: int) -> Floats:
    """The green channel of a photo at a small size with the aspect ratio of (height, width)."""
    scale = _SMALL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    step = max(1, max(pixels_CHW.shape[1:]) // (4 * _SMALL))  # four samples per side suffice
    green = Image.fromarray(np.ascontiguousarray(pixels_CHW[1, ::step, ::step]))
    return np.asarray(green.resize(size, Image.Resampling.BOX), np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Starts of evenly spaced, almost adjacent squares of a side along a length."""
    margin = min(round(_MARGIN * length), (length - side) // 2)
    room = length - 2 * margin - side
    count = room // side + 1
    if count == 1:
        return [(length - side) // 2]
    return [margin + round(place * room / (count - 1)) for place in range(count)]
