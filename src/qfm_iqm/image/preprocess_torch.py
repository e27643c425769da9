"""Preprocessing of tensors, as in `image.preprocess`: in batches, on a GPU, with gradients.

Callers' pixels are checked first.

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

from qfm_iqm.image import preprocess
from qfm_iqm.image.decode import in_eight_bits
from qfm_iqm.image.preprocess import Preprocessing, Resample, reduced

Pixels = Tensor | npt.NDArray[Any]

OVERSHOOT = 0.2
"""How far values may lie outside [0, 1]; they are clamped.

Bicubic resizing overshoots: with antialiasing by up to 0.11 in photos and 0.16 at edges of white
text on black, without it by 0.17 in photos. Values in other units lie much farther outside.
"""


def checked_pixels(pixels: Pixels, name: str, wanted: str, *, dimensions: int) -> Tensor:
    """Converts a caller's pixels, and refuses those that would silently be scored wrongly.

    Args:
        pixels: RGB, a tensor (..., 3, H, W) or an array (..., H, W, 3): floats in [0, 1], or uint8
            from 0 to 255.
        name: name of the pixels in errors.
        wanted: required kind and shape, for errors.
        dimensions: required number of dimensions.

    Returns:
        A tensor (..., 3, H, W) in [0, 1], float64 if the values were, else float32. Values outside
        the range by at most `OVERSHOOT` are clamped. On a GPU, this synchronizes.

    Raises:
        TypeError: the pixels are neither a tensor nor an array.
        ValueError: their shape or type is wrong, or values are not finite or out of range.
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
    if isinstance(pixels, np.ndarray):  # copied, because strides may be negative
        kind = np.uint8 if pixels.dtype == np.uint8 else np.float32
        pixels = torch.from_numpy(np.array(np.moveaxis(pixels, -1, -3), kind, order="C"))
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    pixels = pixels if pixels.dtype == torch.float64 else pixels.float()
    checked: Tensor = _in_unit_range(pixels, name)
    return checked


# A custom op, opaque to torch.compile and torch.export, because the check reads values.
@torch.library.custom_op("qfm_iqm::in_unit_range", mutates_args=())
def _in_unit_range(pixels: Tensor, name: str) -> Tensor:
    """Clamps values that overshoot [0, 1] and refuses values farther outside."""
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
    """The gradient of `clamp`: zero outside the range."""
    (pixels,) = ctx.saved_tensors
    return gradient * ((pixels >= 0) & (pixels <= 1)), None


_in_unit_range.register_autograd(_backward, setup_context=_keep)


def _found(low: float, high: float) -> str:
    """The range that was found instead of [0, 1], with a hint if it is a common mistake."""
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
    """Resizes and pads a float image (C, H, W) or (B, C, H, W), as `preprocess.resize_and_pad`.

    On a CPU without gradients the result is bit-identical. Otherwise images are reduced in floats,
    and pixels differ by at most a few of 255 levels.
    """
    return preprocess.resize_and_pad(image_CHW, preprocessing, reduce=resized)


def covering_crops(resized_CHW: Tensor, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """The crops that cover an image or a batch from `resize_and_pad`, at each scale.

    They are those of `preprocess.covering_crops`, as equal as `resize_and_pad`.
    """
    return preprocess.covering_crops(resized_CHW, preprocessing, reduce=resized)


def crops_of_images(
    images: Pixels | Iterable[Pixels], preprocessing: Preprocessing
) -> tuple[list[Tensor], list[int]]:
    """The crops, on the CPU, of images in memory, and the number of crops per image.

    Args:
        images: see `scoring.scorer.Scorer.score_batch`.
        preprocessing: the model's preprocessing.

    Raises:
        TypeError: an image is neither a tensor nor an array.
        ValueError: its shape or type is wrong, or values are not finite or out of range.
    """
    wanted = "RGB tensors (3, H, W), or arrays (H, W, 3)"
    if not isinstance(images, Iterable):
        raise TypeError(f"images must be {wanted}, not of type {type(images).__name__}")
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) not in (0, 4):  # iterating over a single image would give its rows
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
    """The center square of an image; None takes its shorter side as size."""
    size = size or min(image_CHW.shape[-2:])
    top, left = ((side - size) // 2 for side in image_CHW.shape[-2:])
    return image_CHW[:, top : top + size, left : left + size]


def eight_bits(image: Tensor) -> Tensor:
    """Rounds values in [0, 1] to uint8, which takes as little memory as in the file."""
    return image.mul(255).round().to(torch.uint8)


def resized(image_CHW: Tensor, size: tuple[int, int], resample: Resample = "bicubic") -> Tensor:
    """Resamples images (..., C, H, W), floats or (on a CPU) bytes, to (height, width)."""
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
    """Degrades an image (3, H, W) in 8 bits (`image.distortions.distort_at`).

    Takes floats in [0, 1] or uint8, and returns the same type.
    """
    from qfm_iqm.image.distortions import distort_at  # imported here: scoring needs no OpenCV

    array_CHW = image_CHW.numpy()
    pixels_CHW = array_CHW if image_CHW.dtype == torch.uint8 else in_eight_bits(array_CHW)
    degraded_HWC = distort_at(pixels_CHW.transpose(1, 2, 0), kind, level, seed)
    found_CHW = torch.from_numpy(np.ascontiguousarray(degraded_HWC.transpose(2, 0, 1)))
    return found_CHW if image_CHW.dtype == torch.uint8 else found_CHW.to(image_CHW.dtype) / 255
