"""Pixels that callers hold in memory: checked, then cropped as `image.preprocess` does it.

In batches, on a GPU, with gradients.

Shapes: B images, C channels (3), H and W pixels.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image.decode import in_eight_bits
from qfm_iqm.image.preprocess import (
    Preprocessing,
    Resample,
    further_sizes,
    grid_crops,
    reduced,
    reflection_padded,
    working_size,
)

Pixels = Tensor | npt.NDArray[Any]

OVERSHOOT = 0.2
"""How far values may lie beyond [0, 1]; they are clamped.

Bicubic resizing overshoots: by up to 0.11 in photos, and by 0.16 along the edges of white text on
black, if it is antialiased; by 0.17 in photos if it is not. Values in other units lie far beyond.
"""


def checked_pixels(pixels: Pixels, name: str, wanted: str, *, dimensions: int) -> Tensor:
    """Takes pixels from a caller, and refuses what would be scored wrongly without a word.

    Args:
        pixels: RGB, a tensor (..., 3, H, W) or an array (..., H, W, 3): floats in [0, 1], or uint8
            from 0 to 255.
        name: what to call them in an error.
        wanted: kind and shape, for the same.
        dimensions: how many there must be.

    Returns:
        A tensor (..., 3, H, W) of float32 in [0, 1], or of float64 if the values were. Values
        beyond the range by `OVERSHOOT` at most are clamped. On a GPU, this waits for the values.

    Raises:
        TypeError: neither a tensor nor an array.
        ValueError: of another shape or type, not finite, or beyond the range.
    """
    if isinstance(pixels, Tensor):
        if pixels.layout != torch.strided or pixels.is_meta:
            raise ValueError(f"{name} must be {wanted}, not a sparse or a meta tensor")
        colors, known = -3, pixels.is_floating_point() or pixels.dtype == torch.uint8
    elif isinstance(pixels, np.ndarray):
        colors, known = -1, pixels.dtype.kind == "f" or pixels.dtype == np.uint8
    else:
        raise TypeError(f"{name} must be {wanted}, not of type {type(pixels).__name__}")
    shape = tuple(pixels.shape)
    if len(shape) != dimensions or shape[colors] != 3 or 0 in shape or not known:
        raise ValueError(
            f"{name} must be {wanted}, of floating-point numbers in [0, 1] or of uint8, "
            f"not {shape} of {pixels.dtype}"
        )
    if isinstance(pixels, np.ndarray):  # into memory of our own: it may lie backwards
        kind = np.uint8 if pixels.dtype == np.uint8 else np.float32
        pixels = torch.from_numpy(np.array(np.moveaxis(pixels, -1, -3), kind, order="C"))
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    pixels = pixels if pixels.dtype == torch.float64 else pixels.float()
    checked: Tensor = _in_unit_range(pixels, name)
    return checked


# One operation, which torch.compile and torch.export need not look into: the check reads values.
@torch.library.custom_op("qfm_iqm::in_unit_range", mutates_args=())
def _in_unit_range(pixels: Tensor, name: str) -> Tensor:
    """Values in [0, 1], clamped if they overshoot; what lies farther is refused."""
    low, high = (float(bound) for bound in pixels.aminmax())
    if not -OVERSHOOT <= low <= high <= 1 + OVERSHOOT:
        raise ValueError(f"{name} must hold values from 0 to 1, {_found(low, high)}")
    return pixels.clamp(0, 1)


@_in_unit_range.register_fake
def _(pixels: Tensor, name: str) -> Tensor:
    return torch.empty_like(pixels)


def _keep(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    """That of `clamp`: the gradient within the range, nothing beyond."""
    (pixels,) = ctx.saved_tensors
    return gradient * ((pixels >= 0) & (pixels <= 1)), None


_in_unit_range.register_autograd(_backward, setup_context=_keep)


def _found(low: float, high: float) -> str:
    """What came in place of [0, 1], and what to do if it is well known."""
    if math.isnan(low):
        return "and holds NaN"
    hint = ""
    if low >= 0 and 2 < high <= 255:
        hint = "; 0 to 255 looks like 8-bit values: divide by 255, or give uint8"
    elif low >= -0.5 and high <= 1.5:
        hint = "; if a resizing overshot, clamp them"
    elif low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
        hint = "; this looks like -1 to 1: give (x + 1) / 2"
    elif -3 < low < 0 and high < 3:
        hint = "; this looks like pixels normalized for a network: give them as they were before"
    return f"not from {low:g} to {high:g}{hint}"


def resize_and_pad(image_CHW: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Brings an image to the size at which it is cropped.

    Args:
        image_CHW: float image (C, H, W) or (B, C, H, W) of any size from 1x1 on.
        preprocessing: the model's preprocessing.

    Returns:
        See `image.preprocess.resize_and_pad`; on a CPU and without gradients to the bit the same.
        Elsewhere what is reduced is reduced in floats, and pixels differ by some of 255 levels at
        most.
    """
    height, width = image_CHW.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image_CHW = resized(image_CHW, size, preprocessing.resample)
    resized_CHW: Tensor = reflection_padded(image_CHW, preprocessing.crop)
    return resized_CHW


def covering_crops(resized_CHW: Tensor, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Yields the crops (C, S, S) that cover a resized image, at each size that it is looked at.

    Args:
        resized_CHW: as `resize_and_pad` gives it (C, H, W), or a batch (B, C, H, W), whose
            crops are one.
        preprocessing: the model's preprocessing.

    Yields:
        See `image.preprocess.covering_crops`; equal to them as `resize_and_pad` is.
    """
    height, width = resized_CHW.shape[-2:]
    size, longest = preprocessing.crop, preprocessing.longest
    yield from grid_crops(resized_CHW, size, longest)
    for smaller in further_sizes(height, width, preprocessing):
        yield from grid_crops(resized(resized_CHW, smaller, preprocessing.resample), size, longest)


def crops_of_images(
    images: Pixels | Iterable[Pixels], preprocessing: Preprocessing
) -> tuple[list[Tensor], list[int]]:
    """The crops of images that are in memory, on the CPU, and how many each image has.

    Args:
        images: see `scoring.scorer.Scorer.score_batch`.
        preprocessing: the model's.

    Raises:
        TypeError: an image is neither a tensor nor an array.
        ValueError: it is of another shape or type, not finite, or beyond the range.
    """
    wanted = "RGB tensors (3, H, W), or arrays (H, W, 3)"
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be {wanted}, not of type {type(images).__name__}")
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) not in (0, 4):  # not each image by itself: its rows are none
        raise ValueError(f"images must be {wanted}, or a batch of them, not {shape}")
    crops: list[Tensor] = []
    counts: list[int] = []
    for image in images:
        image_CHW = checked_pixels(image, "images", wanted, dimensions=3)
        resized_CHW = resize_and_pad(image_CHW.detach().cpu().float(), preprocessing)
        covering = list(covering_crops(resized_CHW, preprocessing))
        crops.extend(covering)
        counts.append(len(covering))
    return crops, counts


def center_square(image_CHW: Tensor, size: int | None = None) -> Tensor:
    """The square of a side in the middle of an image; None takes the shorter side."""
    size = size or min(image_CHW.shape[-2:])
    top, left = ((side - size) // 2 for side in image_CHW.shape[-2:])
    return image_CHW[:, top : top + size, left : left + size]


def eight_bits(image: Tensor) -> Tensor:
    """Values in [0, 1] as uint8, rounded: as small as they were in the file."""
    return image.mul(255).round().to(torch.uint8)


def resized(image_CHW: Tensor, size: tuple[int, int], resample: Resample = "bicubic") -> Tensor:
    """Images (..., C, H, W), floats, or bytes on a CPU, resampled to (height, width)."""
    images_BCHW = image_CHW.reshape(-1, *image_CHW.shape[-3:])
    if image_CHW.device.type == "cpu" and not image_CHW.requires_grad:
        scaled_BCHW = torch.stack([_reduced(image, size, resample) for image in images_BCHW])
    else:
        scaled_BCHW = functional.interpolate(images_BCHW, size, mode=resample, antialias=True)
        scaled_BCHW = scaled_BCHW.clamp(0, 1)
    return scaled_BCHW.reshape(*image_CHW.shape[:-2], *size)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # Pillow does it
def _reduced(image_CHW: Tensor, size: tuple[int, int], resample: Resample) -> Tensor:
    whole = image_CHW.dtype == torch.uint8
    pixels_CHW = (image_CHW if whole else image_CHW.float()).numpy()
    reduced_CHW = torch.from_numpy(np.ascontiguousarray(reduced(pixels_CHW, size, resample)))
    return reduced_CHW.to(image_CHW.dtype)


def distort_tensor(image_CHW: Tensor, kind: str, level: int, seed: int = 0) -> Tensor:
    """An image (3, H, W) degraded in 8 bits (`image.distortions.distort_at`).

    Floats in [0, 1] or uint8 in, the same kind of values out.
    """
    from qfm_iqm.image.distortions import distort_at  # here: scoring does without OpenCV

    array_CHW = image_CHW.numpy()
    pixels_CHW = array_CHW if image_CHW.dtype == torch.uint8 else in_eight_bits(array_CHW)
    degraded_HWC = distort_at(pixels_CHW.transpose(1, 2, 0), kind, level, seed)
    found_CHW = torch.from_numpy(np.ascontiguousarray(degraded_HWC.transpose(2, 0, 1)))
    return found_CHW if image_CHW.dtype == torch.uint8 else found_CHW.to(image_CHW.dtype) / 255
