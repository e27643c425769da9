"""Preprocessing: an image is resized, padded and covered by crops.

Design choices:
* The crops cover the image, so that no defect is missed by chance, and the same image always gives
  the same crops (no random test crops).
* Crops right of the center are mirrored; crops exactly at the center are mirrored if their right
  half is brighter. A mirrored image therefore gives the same crops and the same score, at no cost.
* A crop may have longer sides (`max_aspect`), for networks that take any size; most photos are then
  a single crop.
* An image is never enlarged, because that blurs it, and blur lowers quality. A side shorter than a
  crop is reflection-padded (edge included), which adds no new edge and no new color.
* Images are reduced in 8 bits, like stored and displayed images. Floats take twice the time without
  a visible difference.

Shapes: C channels (3), H and W pixels, K crops, S crop size (S x S, or longer sides).
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.decode import in_eight_bits, in_unit_range

Resample = Literal["bicubic", "bilinear"]
Cropped = TypeVar("Cropped")  # an array or a tensor
Reduce = Callable[[Any, tuple[int, int], Resample], Any]  # resamples it to (height, width)


class Preprocessing(BaseModel):
    """How an image is turned into crops; part of a model's card.

    Attributes:
        crop: shortest side of a crop in pixels; crops are square unless `max_aspect` exceeds 1.
        max_aspect: longest side of a crop as a multiple of `crop`. A crop covers all of a side that
            is no longer.
        shorter_side: larger images are first reduced to this shorter side, antialiased, with their
            aspect ratio kept; None keeps every image's size.
        resample: "bicubic", or "bilinear", which takes half the time and causes no ringing.
        extra_scales: descending shorter sides that the image at `shorter_side` is further reduced
            to. Their crops count equally, and each shows more of the image. None for none.
        squeeze: (height, width) that every image is resized to without keeping its aspect ratio,
            as in the literature, for comparison with its figures; None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    crop: int = Field(default=224, ge=16)
    max_aspect: float = Field(default=1.0, ge=1, le=8)
    shorter_side: int | None = Field(default=None, ge=16)
    resample: Resample = "bicubic"
    extra_scales: tuple[int, ...] | None = Field(default=None, strict=False)  # a list in JSON
    squeeze: tuple[int, int] | None = Field(default=None, strict=False)  # as well

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.squeeze is not None and self.shorter_side is not None:
            raise ValueError("squeeze and shorter_side exclude each other")
        if self.squeeze is not None and min(self.squeeze) < 16:
            raise ValueError(f"squeeze has a side below 16: {self.squeeze}")
        if (extra := self.extra_scales) is not None:
            sides = (self.shorter_side or 0, *extra, self.crop - 1)
            if not all(before > later for before, later in pairwise(sides)):
                raise ValueError(
                    f"extra_scales must fall from shorter_side to crop at least: {list(extra)}"
                )
        return self

    @property
    def longest(self) -> int:
        """The longest side of a crop, in pixels."""
        return int(self.crop * self.max_aspect)


def reduced(
    image_CHW: npt.NDArray[Any], size: tuple[int, int], resample: Resample = "bicubic"
) -> npt.NDArray[Any]:
    """Resamples bytes or floats (3, H, W) to (height, width), computed in 8 bits."""
    whole = image_CHW.dtype == np.uint8
    pixels_HWC = (image_CHW if whole else in_eight_bits(image_CHW)).transpose(1, 2, 0)
    reduced_CHW = resized(pixels_HWC, size, resample).transpose(2, 0, 1)
    return reduced_CHW if whole else in_unit_range(reduced_CHW)


def resize_and_pad(
    image_CHW: Cropped, preprocessing: Preprocessing, reduce: Reduce = reduced
) -> Cropped:
    """Resizes and pads an image to the size at which it is cropped.

    Args:
        image_CHW: image (C, H, W) in [0, 1] of any size; an array, or with its own `reduce` a
            tensor, which may be a batch.
        preprocessing: the model's preprocessing.
        reduce: resamples the image.

    Returns:
        The image, squeezed or, if larger, reduced to `shorter_side`; then reflection-padded at the
        bottom and right where a side is shorter than a crop.
    """
    image: Any = image_CHW
    height, width = image.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image = reduce(image, size, preprocessing.resample)
    resized_CHW: Cropped = reflection_padded(image, preprocessing.crop)
    return resized_CHW


def resized(
    pixels_HWC: Bytes,
    size: tuple[int, int],
    resample: Resample = "bicubic",
    extent: tuple[float, float] | None = None,
) -> Bytes:
    """Resamples pixels (H, W, 3) to a size, antialiased, first horizontally, then vertically.

    Args:
        pixels_HWC: pixels, uint8.
        size: height and width of the result.
        resample: resampling filter.
        extent: height and width, possibly fractional, of the resampled region from the top left
            corner; None for the whole image.
    """
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    down, across = extent or pixels_HWC.shape[:2]
    method = Image.Resampling[resample.upper()]
    # One direction at a time, because Pillow would start with the cheaper one.
    image = image.resize((width, image.height), method, (0, 0, across, image.height))
    return np.array(image.resize((width, height), method, (0, 0, width, down)))


def reflection_padded(image_CHW: Any, crop: int) -> Any:
    """Reflection-pads the sides of an array or a tensor that are shorter than a crop."""
    height, width = image_CHW.shape[-2:]
    if height < crop:
        image_CHW = image_CHW[..., _mirrored(height, crop), :]
    if width < crop:
        image_CHW = image_CHW[..., _mirrored(width, crop)]
    return image_CHW


def working_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width that an image is resized to, before padding."""
    if preprocessing.squeeze is not None:
        return preprocessing.squeeze
    if preprocessing.shorter_side is None:
        return height, width
    return reduced_size(height, width, preprocessing.shorter_side)


def reduced_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image reduced to a shorter side of at most `side`, aspect kept."""
    if min(height, width) <= side:
        return height, width
    scale = side / min(height, width)
    return max(side, round(height * scale)), max(side, round(width * scale))


def grid_positions(
    height: int, width: int, size: int, longest: int | None = None
) -> list[tuple[int, int]]:
    """The covering grid: the fewest evenly spaced crops that cover every pixel.

    Args:
        height: image height, at least `size`.
        width: image width, at least `size`.
        size: shorter side of a crop.
        longest: longest side of a crop; None for square ones.

    Returns:
        (top, left) of each crop, row by row.
    """
    rows, columns = (_starts(side, _extent(side, size, longest)) for side in (height, width))
    return [(top, left) for top in rows for left in columns]


def covering_crops(
    resized_CHW: Cropped, preprocessing: Preprocessing, reduce: Reduce = reduced
) -> Iterator[Cropped]:
    """Yields the crops (C, S, S) that cover a resized image, at each scale.

    Args:
        resized_CHW: an image from `resize_and_pad`, floats or bytes.
        preprocessing: the model's preprocessing.
        reduce: see `resize_and_pad`.

    Yields:
        The crops of the covering grid, row by row, possibly mirrored, as views of the image; then
        those of the `extra_scales`.
    """
    image: Any = resized_CHW
    height, width = image.shape[-2:]
    size, longest = preprocessing.crop, preprocessing.longest
    yield from grid_crops(resized_CHW, size, longest)
    for smaller in further_sizes(height, width, preprocessing):
        yield from grid_crops(reduce(image, smaller, preprocessing.resample), size, longest)


def further_sizes(
    height: int, width: int, preprocessing: Preprocessing
) -> Iterator[tuple[int, int]]:
    """Height and width of a resized image at each of the `extra_scales`."""
    for side in preprocessing.extra_scales or ():
        if min(height, width) > side:
            yield reduced_size(height, width, side)


def grid_crops(image_CHW: Cropped, size: int, longest: int | None = None) -> Iterator[Cropped]:
    """Yields the crops of an image's covering grid, possibly mirrored.

    The image is an array, whose crops are views, or a tensor, which may be a batch.
    """
    image: Any = image_CHW
    height, width = image.shape[-2:]
    down, across = (_extent(side, size, longest) for side in (height, width))
    columns = len(_starts(width, across))
    for place, (top, left) in enumerate(grid_positions(height, width, size, longest)):
        rows = image[..., top : top + down, :]
        right = 2 * (place % columns) + 1 - columns  # above 0: right of the center
        if right == 0:  # in an odd width one more column, so that both halves are equal
            yield _turned(rows[..., left : width - left])[..., :across]
        else:
            crop = rows[..., left : left + across]
            yield _mirror(crop) if right > 0 else crop


def _extent(side: int, size: int, longest: int | None) -> int:
    """The length of a crop along a side of an image."""
    return size if longest is None else max(size, min(side, longest))


def _turned(crop: Any) -> Any:
    """A crop with its brighter half on the left; in a batch of tensors, each separately."""
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
    """Evenly spaced, symmetric starts of the fewest windows of `size` that cover `length`."""
    if length < size:
        raise ValueError(
            f"a side of {length} pixels is shorter than the crop of {size}: pad it first"
        )
    windows = math.ceil(length / size)
    if windows == 1:
        return [0]
    room = length - size
    first = [round(i * room / (windows - 1)) for i in range(windows // 2)]
    middle = [room // 2] if windows % 2 else []
    return first + middle + [room - start for start in first[::-1]]


def _mirrored(length: int, target: int) -> npt.NDArray[np.int64]:
    """Indices 0..length-1, length-1..0, 0..., cut at `target`: edge-inclusive reflection."""
    position = np.arange(target) % (2 * length)
    return np.minimum(position, 2 * length - 1 - position)
