"""Which pixels the network sees: fitting an image, and the covering grid of crops.

Design choices:
* The crops of an image cover it: every pixel is seen, so that no defect is missed by chance,
  and the same image always gives the same crops (no random test crops).
* Crops to the right of the middle are mirrored, and those in the very middle if their right half is
  the brighter one. So a mirrored image shows the network the same crops again, and gets the same
  score. It costs nothing.
* An image is never enlarged: enlarging blurs, and blur is what we judge. A side shorter than
  a crop is continued by mirroring (edge included), which adds no new edge and no new colour.
* What is reduced is reduced in 8 bits, as files are stored and screens show them. Floats take
  twice the time and say nothing that people see.

Shapes: C channels (3), H and W pixels, K crops, S crop size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qfm_iqm.image.decode import Bytes, Floats, in_eight_bits, in_unit_range

Cropped = TypeVar("Cropped")  # an array or a tensor


class Preprocessing(BaseModel):
    """How an image becomes crops; part of a model's card.

    Attributes:
        crop: side of the square crops, in pixels.
        shorter_side: images whose shorter side is longer than this are first reduced to it,
            aspect kept (antialiased bicubic); None keeps every image at its own size.
        again: shorter sides, each smaller than the one before, that what was reduced to
            `shorter_side` is reduced to once more: its crops count as those before, and each shows
            more of the image at once. None for none.
        squeeze: (height, width) that every image is brought to, aspect not kept: a habit of the
            literature, for comparison with its figures; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    crop: int = Field(default=224, ge=16)
    shorter_side: int | None = Field(default=None, ge=16)
    again: tuple[int, ...] | None = Field(default=None, strict=False)  # a list in JSON
    squeeze: tuple[int, int] | None = Field(default=None, strict=False)  # as well

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.squeeze is not None and self.shorter_side is not None:
            raise ValueError("squeeze and shorter_side exclude each other")
        if self.squeeze is not None and min(self.squeeze) < 16:
            raise ValueError(f"squeeze has a side below 16: {self.squeeze}")
        if not sizes_fall(self.shorter_side, self.again, self.crop):
            raise ValueError(f"again must fall from shorter_side to crop at least: {self.again}")
        return self


def sizes_fall(shorter_side: int | None, again: tuple[int, ...] | None, crop: int) -> bool:
    """Whether further sizes, if there are any, fall from the first one to a crop's at the least."""
    sides = (shorter_side or 0, *(again or ()), crop - 1)
    return again is None or all(before > later for before, later in pairwise(sides))


def fit(image_CHW: Floats, preprocessing: Preprocessing) -> Floats:
    """Brings an image to the size at which it is cropped.

    Args:
        image_CHW: image (C, H, W) in [0, 1] of any size from 1x1 on.
        preprocessing: the model's preprocessing.

    Returns:
        The image squeezed, or reduced to `shorter_side` where it is larger, then continued by
        mirroring at the bottom and right where a side is shorter than a crop.
    """
    height, width = image_CHW.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image_CHW = reduced(image_CHW, size)
    fitted_CHW: Floats = continued(image_CHW, preprocessing.crop)
    return fitted_CHW


def resized(pixels_HWC: Bytes, size: tuple[int, int]) -> Bytes:
    """Pixels (H, W, 3) resampled to (H, W): bicubic, antialiased, across first and then down."""
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    # One direction at a time: left to itself, Pillow begins with the one that costs less.
    for reached in ((width, image.height), (width, height)):
        image = image.resize(reached, Image.Resampling.BICUBIC)
    return np.asarray(image)


def continued(image_CHW: Any, crop: int) -> Any:
    """An array or a tensor whose sides shorter than a crop are continued by mirroring."""
    height, width = image_CHW.shape[-2:]
    if height < crop:
        image_CHW = image_CHW[..., _mirrored(height, crop), :]
    if width < crop:
        image_CHW = image_CHW[..., _mirrored(width, crop)]
    return image_CHW


def working_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width that an image is resized to, before any mirroring."""
    if preprocessing.squeeze is not None:
        return preprocessing.squeeze
    if preprocessing.shorter_side is None:
        return height, width
    return reduced_size(height, width, preprocessing.shorter_side)


def reduced_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image whose shorter side is `side` at most, aspect kept."""
    if min(height, width) <= side:
        return height, width
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def grid_positions(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """The covering grid: as few evenly spread square crops as cover every pixel.

    Args:
        height: image height, at least `size`.
        width: image width, at least `size`.
        size: side of a crop.

    Returns:
        (top, left) of each crop, row by row.
    """
    return [(top, left) for top in _starts(height, size) for left in _starts(width, size)]


def covering_crops(
    fitted_CHW: npt.NDArray[Any], preprocessing: Preprocessing
) -> Iterator[npt.NDArray[Any]]:
    """Yields the crops (C, S, S) that cover a fitted image, at each size that it is looked at.

    Args:
        fitted_CHW: as `fit` gives it, floats or bytes.
        preprocessing: the model's.

    Yields:
        Those of the covering grid, row by row, each turned to one side: views of the image; then
        those of the image reduced `again`.
    """
    height, width = fitted_CHW.shape[-2:]
    yield from grid_crops(fitted_CHW, preprocessing.crop)
    for size in further_sizes(height, width, preprocessing):
        yield from grid_crops(reduced(fitted_CHW, size), preprocessing.crop)


def reduced(image_CHW: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Bytes or floats (3, H, W) resampled to (height, width), in 8 bits between."""
    whole = image_CHW.dtype == np.uint8
    pixels_HWC = (image_CHW if whole else in_eight_bits(image_CHW)).transpose(1, 2, 0)
    reduced_CHW = resized(pixels_HWC, size).transpose(2, 0, 1)
    return reduced_CHW if whole else in_unit_range(reduced_CHW)


def further_sizes(
    height: int, width: int, preprocessing: Preprocessing
) -> Iterator[tuple[int, int]]:
    """Height and width of each reduction of a fitted image that it is looked at in `again`."""
    for side in preprocessing.again or ():
        if min(height, width) > side:
            yield reduced_size(height, width, side)


def grid_crops(image_CHW: Cropped, size: int) -> Iterator[Cropped]:
    """Yields the crops (C, S, S) of an image's covering grid, turned to one side each.

    The image is an array, and they are views of it, or a tensor, and may be a batch of some.
    """
    image: Any = image_CHW
    height, width = image.shape[-2:]
    columns = len(_starts(width, size))
    for place, (top, left) in enumerate(grid_positions(height, width, size)):
        rows = image[..., top : top + size, :]
        right = 2 * (place % columns) + 1 - columns  # of the middle
        if right == 0:  # in an odd width one column more, so that both halves are alike
            yield _turned(rows[..., left : width - left])[..., :size]
        else:
            crop = rows[..., left : left + size]
            yield _mirror(crop) if right > 0 else crop


def _turned(crop: Any) -> Any:
    """A crop with its brighter half on the left; of a batch of tensors, each."""
    half = crop.shape[-1] // 2
    left, right = crop[..., :half], crop[..., -half:]
    axes, level = (-3, -2, -1), 1.0 if str(crop.dtype).endswith("uint8") else 1 / 255
    if isinstance(crop, np.ndarray):
        more = right.sum(axes, dtype=np.float64) - left.sum(axes, dtype=np.float64)
        return _mirror(crop) if more > level / 2 else crop
    more = right.double().sum(axes) - left.double().sum(axes)
    return _mirror(crop).where((more > level / 2)[..., None, None, None], crop)


def _mirror(crop: Any) -> Any:
    return crop[..., ::-1] if isinstance(crop, np.ndarray) else crop.flip(-1)


def _starts(length: int, size: int) -> list[int]:
    """Evenly spread starts of the fewest windows of `size` that cover `length`, in symmetry."""
    if length < size:
        raise ValueError(f"a side of {length} pixels is shorter than the crop of {size}: fit first")
    windows = math.ceil(length / size)
    if windows == 1:
        return [0]
    room = length - size
    first = [round(i * room / (windows - 1)) for i in range(windows // 2)]
    middle = [room // 2] if windows % 2 else []
    return first + middle + [room - start for start in first[::-1]]


def _mirrored(length: int, target: int) -> npt.NDArray[np.int64]:
    """Indices 0..length-1, length-1..0, 0..., cut at `target`: edge-inclusive mirroring."""
    position = np.arange(target) % (2 * length)
    return np.minimum(position, 2 * length - 1 - position)
