"""Fitting of tensors, as `image.cropping` does it for arrays: in batches, on a GPU, with gradients.

Shapes: B images, C channels (3), H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image.cropping import (
    Preprocessing,
    continued,
    further_sizes,
    grid_crops,
    reduced,
    working_size,
)


def fit(image_CHW: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Brings an image to the size at which it is cropped.

    Args:
        image_CHW: float image (C, H, W) or (B, C, H, W) of any size from 1x1 on.
        preprocessing: the model's preprocessing.

    Returns:
        See `cropping.fit`; on a CPU and without gradients to the bit the same. Elsewhere what is
        reduced is reduced in floats, and pixels differ by some of 255 levels at most.
    """
    height, width = image_CHW.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image_CHW = resized(image_CHW, size)
    fitted_CHW: Tensor = continued(image_CHW, preprocessing.crop)
    return fitted_CHW


def covering_crops(fitted_CHW: Tensor, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Yields the crops (C, S, S) that cover a fitted image, at each size that it is looked at.

    Args:
        fitted_CHW: as `fit` gives it (C, H, W), or a batch (B, C, H, W), whose crops are one.
        preprocessing: the model's preprocessing.

    Yields:
        See `cropping.covering_crops`; equal to them as `fit` is.
    """
    height, width = fitted_CHW.shape[-2:]
    yield from grid_crops(fitted_CHW, preprocessing.crop)
    for size in further_sizes(height, width, preprocessing):
        yield from grid_crops(resized(fitted_CHW, size), preprocessing.crop)


def eight_bits(image: Tensor) -> Tensor:
    """Values in [0, 1] as uint8, rounded: as small as they were in the file."""
    return image.mul(255).round().to(torch.uint8)


def resized(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (..., C, H, W), floats, or bytes on a CPU, resampled to (height, width); see `fit`."""
    images_BCHW = image_CHW.reshape(-1, *image_CHW.shape[-3:])
    if image_CHW.device.type == "cpu" and not image_CHW.requires_grad:
        scaled_BCHW = torch.stack([_reduced(image, size) for image in images_BCHW])
    else:
        scaled_BCHW = functional.interpolate(images_BCHW, size, mode="bicubic", antialias=True)
        scaled_BCHW = scaled_BCHW.clamp(0, 1)
    return scaled_BCHW.reshape(*image_CHW.shape[:-2], *size)


def _reduced(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    whole = image_CHW.dtype == torch.uint8
    pixels_CHW = (image_CHW if whole else image_CHW.float()).numpy()
    return torch.from_numpy(np.ascontiguousarray(reduced(pixels_CHW, size)))
