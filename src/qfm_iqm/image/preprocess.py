"""Which pixels the network sees: an image is resized and padded, and crops cover it.

Design choices:
* The crops of an image cover it: every pixel is seen, so that no defect is missed by chance,
  and the same image always gives the same crops (no random test crops).
* Crops to the right of the middle are mirrored, and those in the very middle if their right half is
  the brighter one. So a mirrored image shows the network the same crops again, and gets the same
  score. It costs nothing.
* A crop may be longer than it is high (`max_aspect`), for networks that take any size: then most
  photos are one crop, seen whole.
* An image is never enlarged: enlarging blurs, and blur lowers quality. A side shorter than a crop
  is padded by reflection (edge included), which adds no new edge and no new color.
* What is reduced is reduced in 8 bits, as files are stored and screens show them. Floats take
  twice the time and say nothing that people see.

Shapes: C channels (3), H and W pixels, K crops, S crop size (S x S, or longer one way).
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from qfm_iqm.arrays import Bytes, Floats
from qfm_iqm.image.decode import in_eight_bits, in_unit_range

Resample = Literal["bicubic", "bilinear"]
Cropped = TypeVar("Cropped")  # an array or a tensor


class Preprocessing(BaseModel):
    """How an image becomes crops; part of a model's card.

    Attributes:
        crop: side of the square crops, in pixels; of longer ones, the shorter side.
        max_aspect: how many times as long the longer side of a crop may be.
        shorter_side: images whose shorter side is longer than this are first reduced to it,
            aspect kept, antialiased; None keeps every image at its own size.
        resample: how: "bicubic", or "bilinear", which takes half the time and rings nowhere.
        extra_scales: shorter sides, each smaller than the one before, that what was reduced to
            `shorter_side` is reduced to once more: its crops count as those before, and each shows
            more of the image at once. None for none.
        squeeze: (height, width) that every image is brought to, aspect not kept: a habit of the
            literature, for comparison with its figures; None for none.
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


def resize_and_pad(image_CHW: Floats, preprocessing: Preprocessing) -> Floats:
    """Brings an image to the size at which it is cropped.

    Args:
        image_CHW: image (C, H, W) in [0, 1] of any size from 1x1 on.
        preprocessing: the model's preprocessing.

    Returns:
        The image squeezed, or reduced to `shorter_side` where it is larger, then padded by
        reflection at the bottom and right where a side is shorter than a crop.
    """
    height, width = image_CHW.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image_CHW = reduced(image_CHW, size, preprocessing.resample)
    resized_CHW: Floats = reflection_padded(image_CHW, preprocessing.crop)
    return resized_CHW


def resized(
    pixels_HWC: Bytes,
    size: tuple[int, int],
    resample: Resample = "bicubic",
    extent: tuple[float, float] | None = None,
) -> Bytes:
    """Pixels (H, W, 3) resampled to (H, W), antialiased, across first and then down.

    Args:
        pixels_HWC: uint8.
        size: height and width of the result.
        resample: how.
        extent: height and width of what is resampled, from the top left corner, in pixels that
            may be fractions; None for all.
    """
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    down, across = extent or pixels_HWC.shape[:2]
    method = Image.Resampling[resample.upper()]
    # One direction at a time: left to itself, Pillow begins with the one that costs less.
    image = image.resize((width, image.height), method, (0, 0, across, image.height))
    return np.array(image.resize((width, height), method, (0, 0, width, down)))


def reflection_padded(image_CHW: Any, crop: int) -> Any:
    """An array or a tensor whose sides shorter than a crop are padded by reflection."""
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


def grid_positions(
    height: int, width: int, size: int, longest: int | None = None
) -> list[tuple[int, int]]:
    """The covering grid: as few evenly spread crops as cover every pixel.

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
    resized_CHW: npt.NDArray[Any], preprocessing: Preprocessing
) -> Iterator[npt.NDArray[Any]]:
    """Yields the crops (C, S, S) that cover a resized image, at each size that it is looked at.

    Args:
        resized_CHW: as `resize_and_pad` gives it, floats or bytes.
        preprocessing: the model's.

    Yields:
        Those of the covering grid, row by row, each turned to one side: views of the image; then
        those of the image at its `extra_scales`.
    """
    height, width = resized_CHW.shape[-2:]
    size, longest = preprocessing.crop, preprocessing.longest
    yield from grid_crops(resized_CHW, size, longest)
    for smaller in further_sizes(height, width, preprocessing):
        yield from grid_crops(reduced(resized_CHW, smaller, preprocessing.resample), size, longest)


def reduced(
    image_CHW: npt.NDArray[Any], size: tuple[int, int], resample: Resample = "bicubic"
) -> npt.NDArray[Any]:
    """Bytes or floats (3, H, W) resampled to (height, width), in 8 bits between."""
    whole = image_CHW.dtype == np.uint8
    pixels_HWC = (image_CHW if whole else in_eight_bits(image_CHW)).transpose(1, 2, 0)
    reduced_CHW = resized(pixels_HWC, size, resample).transpose(2, 0, 1)
    return reduced_CHW if whole else in_unit_range(reduced_CHW)


def further_sizes(
    height: int, width: int, preprocessing: Preprocessing
) -> Iterator[tuple[int, int]]:
    """Height and width of a resized image at each of the `extra_scales`."""
    for side in preprocessing.extra_scales or ():
        if min(height, width) > side:
            yield reduced_size(height, width, side)


def grid_crops(image_CHW: Cropped, size: int, longest: int | None = None) -> Iterator[Cropped]:
    """Yields the crops of an image's covering grid, turned to one side each.

    The image is an array, and they are views of it, or a tensor, and may be a batch of some.
    """
    image: Any = image_CHW
    height, width = image.shape[-2:]
    down, across = (_extent(side, size, longest) for side in (height, width))
    columns = len(_starts(width, across))
    for place, (top, left) in enumerate(grid_positions(height, width, size, longest)):
        rows = image[..., top : top + down, :]
        right = 2 * (place % columns) + 1 - columns  # of the middle
        if right == 0:  # in an odd width one column more, so that both halves are alike
            yield _turned(rows[..., left : width - left])[..., :across]
        else:
            crop = rows[..., left : left + across]
            yield _mirror(crop) if right > 0 else crop


def _extent(side: int, size: int, longest: int | None) -> int:
    """The extent of a crop along a side of an image."""
    return size if longest is None else max(size, min(side, longest))


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
    """Indices 0..length-1, length-1..0, 0..., cut at `target`: edge-inclusive mirroring."""
    position = np.arange(target) % (2 * length)
    return np.minimum(position, 2 * length - 1 - position)
