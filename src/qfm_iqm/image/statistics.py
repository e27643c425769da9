"""What the pixels of an image are like, in a few numbers: to tell photos from what is none.

Photos share statistics that drawings, text, flat colours and pure noise lack (natural scene
statistics: Ruderman, 1994; Mittal et al., 2012): neighbours are alike but rarely equal, edges are
few and strong, every scale holds about as much contrast as the next, colours are many.

Shapes: H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NAMES = (
    "equal_across", "equal_down", "brightness", "contrast", "dark", "bright", "chroma",
    "gradient", "sparsity", "roughness", "coarser", "coarsest", "anisotropy",
    "colours", "commonest",
)  # fmt: skip
"""Of the statistics, in their order."""

_LEVEL = 1 / 255
_FLOOR = _LEVEL / 4  # below any 8-bit difference: logarithms stay finite
_COLOUR_LEVELS = 16  # a colour, for counting: 4 bits of each channel


def pixel_statistics(image_3HW: Tensor) -> Tensor:
    """Measures an image.

    Args:
        image_3HW: RGB (3, H, W) in [0, 1], of any size from 1x1 on.

    Returns:
        As many numbers as `NAMES`, float64, all finite:

        * shares of neighbours that are equal, side by side and one above the other;
        * mean and (log) standard deviation of the brightness, shares of black and white pixels;
        * mean distance between the largest and the smallest colour of a pixel;
        * log mean gradient; log of its root mean square over its mean: few strong edges, or many
          weak ones;
        * log mean second difference over the gradient: fine grain;
        * log mean gradient at a half and at a quarter of the size, over that at full size;
        * log of horizontal over vertical gradient;
        * log number of different colours, and the share of the commonest.
    """
    image_3HW = image_3HW.detach().cpu().float()
    grey_HW = image_3HW.mean(0)
    across_3Hw, down_3hW = image_3HW.diff(dim=2).abs(), image_3HW.diff(dim=1).abs()
    gradients = torch.cat([grey_HW.diff(dim=1).flatten(), grey_HW.diff(dim=0).flatten()]).abs()
    mean_gradient = _mean(gradients)
    second = torch.cat([grey_HW.diff(n=2, dim=1).flatten(), grey_HW.diff(n=2, dim=0).flatten()])
    across, down = _mean(grey_HW.diff(dim=1).abs()), _mean(grey_HW.diff(dim=0).abs())
    levels_3HW = (image_3HW * (_COLOUR_LEVELS - 1) + 0.5).long()
    codes = (levels_3HW[0] * _COLOUR_LEVELS + levels_3HW[1]) * _COLOUR_LEVELS + levels_3HW[2]
    counts = torch.bincount(codes.clamp(0, _COLOUR_LEVELS**3 - 1).flatten())
    numbers = [
        _mean((across_3Hw.amax(0) < _LEVEL / 2).float()),
        _mean((down_3hW.amax(0) < _LEVEL / 2).float()),
        grey_HW.mean(),
        _log(grey_HW.std(correction=0)),
        (grey_HW < _LEVEL).float().mean(),
        (grey_HW > 1 - _LEVEL).float().mean(),
        (image_3HW.amax(0) - image_3HW.amin(0)).mean(),
        _log(mean_gradient),
        _log(_mean(gradients**2).sqrt()) - _log(mean_gradient),
        _log(_mean(second.abs())) - _log(mean_gradient),
        _log(_mean_gradient(grey_HW, 2)) - _log(mean_gradient),
        _log(_mean_gradient(grey_HW, 4)) - _log(mean_gradient),
        _log(across) - _log(down),
        (counts > 0).sum().log(),
        counts.max() / codes.numel(),
    ]
    return torch.stack([number.double() for number in numbers])


def _mean_gradient(grey_HW: Tensor, factor: int) -> Tensor:
    """The mean gradient of the image reduced by area."""
    if min(grey_HW.shape) < 2 * factor:
        return _mean(torch.empty(0))
    small_hw = functional.avg_pool2d(grey_HW[None], factor)[0]
    return _mean(torch.cat([small_hw.diff(dim=1).flatten(), small_hw.diff(dim=0).flatten()]).abs())


def _mean(values: Tensor) -> Tensor:
    """The mean; 0 of nothing, as an image one pixel wide has no neighbours."""
    return values.mean() if values.numel() else torch.zeros(())


def _log(value: Tensor) -> Tensor:
    return (value + _FLOOR).log()
