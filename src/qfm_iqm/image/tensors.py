"""Fitting of tensors, as `image.cropping` does it for arrays: in batches, on a GPU, with gradients.

Shapes: B images, C channels (3), H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image import cropping
from qfm_iqm.image.cropping import Preprocessing, continued, working_size
from qfm_iqm.image.reading import in_eight_bits, in_unit_range


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
        image_CHW = _resized(image_CHW, size)
    fitted_CHW: Tensor = continued(image_CHW, preprocessing.crop)
    return fitted_CHW


def eight_bits(image: Tensor) -> Tensor:
    """Values in [0, 1] as uint8, rounded: as small as they were in the file."""
    return image.mul(255).round().to(torch.uint8)


def _resized(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    images_BCHW = image_CHW.reshape(-1, *image_CHW.shape[-3:])
    if image_CHW.device.type == "cpu" and not image_CHW.requires_grad:
        scaled_BCHW = torch.stack([_resized_in_bytes(image, size) for image in images_BCHW])
    else:
        scaled_BCHW = functional.interpolate(images_BCHW, size, mode="bicubic", antialias=True)
        scaled_BCHW = scaled_BCHW.clamp(0, 1)
    return scaled_BCHW.reshape(*image_CHW.shape[:-2], *size)


def _resized_in_bytes(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    pixels_HWC = in_eight_bits(image_CHW.float().numpy()).transpose(1, 2, 0)
    resized_CHW = cropping.resized(pixels_HWC, size).transpose(2, 0, 1)
    return torch.from_numpy(in_unit_range(resized_CHW))
