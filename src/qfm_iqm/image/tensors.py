"""Fitting of tensors, as `image.cropping` does it for arrays: in batches, on a GPU, with gradients.

Shapes: B images, C channels (3), H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.image import cropping
from qfm_iqm.image.cropping import Preprocessing, continued, working_size


def fit(image_CHW: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Brings an image to the size at which it is cropped.

    Args:
        image_CHW: float image (C, H, W) or (B, C, H, W) of any size from 1x1 on.
        preprocessing: the model's preprocessing.

    Returns:
        See `cropping.fit`; of one image on a CPU and without gradients to the bit the same.
    """
    height, width = image_CHW.shape[-2:]
    size = working_size(height, width, preprocessing)
    if size != (height, width):
        image_CHW = _resized(image_CHW, size).clamp(0, 1)
    fitted_CHW: Tensor = continued(image_CHW, preprocessing.crop)
    return fitted_CHW


def _resized(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    if image_CHW.ndim == 3 and image_CHW.device.type == "cpu" and not image_CHW.requires_grad:
        return torch.from_numpy(cropping.resized(image_CHW.float().numpy(), size))
    batched = image_CHW.reshape(-1, *image_CHW.shape[-3:])
    scaled = functional.interpolate(batched, size, mode="bicubic", antialias=True)
    return scaled.reshape(*image_CHW.shape[:-2], *size)
