"""Layout features of a photo, for recognizing photos of the same subject.

They are edge directions in 8 x 8 cells and colors in 4 x 4 cells. Photos of one moment have similar
features whatever their sharpness, noise or brightness; photos of different moments do not. On
photos that were reframed, re-exposed and degraded, they recognize the same photo far better than
the features of the scoring network, which encode mainly distortions (benchmarks/culling.py).
"""

import numpy as np
from PIL import Image

from qfm_iqm.arrays import Bytes, Floats

_SIDE = 64  # side of the gray image for edges
_PLACES = 8  # edge cells per side
_DIRECTIONS = 8
_COLOR_PLACES = 4  # color cells per side
_COLOR_SHARE = 1 / 3  # weight of colors in the similarity
_FAINT = 10.0  # gray levels; cells with weaker edges count less


def layout(pixels_CHW: Bytes) -> Floats:
    """Computes the layout features of a photo.

    Args:
        pixels_CHW: RGB (3, H, W), uint8.

    Returns:
        A unit vector of 560 numbers; the dot product of two vectors is the similarity of photos.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr")
    values_HWC = np.asarray(small, np.float32)
    edges, colors = _unit(_edges(values_HWC[..., 0])), _unit(_colors(values_HWC))
    return _unit(
        np.concatenate([np.sqrt(1 - _COLOR_SHARE) * edges, np.sqrt(_COLOR_SHARE) * colors])
    )


def _edges(gray_HW: Floats) -> Floats:
    """Strength of edges in each cell and direction, relative to the photo's average."""
    down, across = np.gradient(gray_HW)
    strength = np.hypot(down, across)
    angle = np.arctan2(down, across) % np.pi
    bins = (angle / np.pi * _DIRECTIONS).astype(np.intp) % _DIRECTIONS
    step = _SIDE // _PLACES
    row, column = np.indices(gray_HW.shape) // step
    found = np.zeros((_PLACES, _PLACES, _DIRECTIONS), np.float32)
    np.add.at(found, (row, column, bins), strength)
    found /= np.sqrt((found**2).sum(2, keepdims=True) + _FAINT**2)
    return np.asarray((found - found.mean((0, 1))).ravel(), np.float32)


def _colors(values_HWC: Floats) -> Floats:
    """Mean Y'CbCr in each cell, with luma relative to the photo's average, to ignore exposure."""
    step = _SIDE // _COLOR_PLACES
    means = values_HWC.reshape(_COLOR_PLACES, step, _COLOR_PLACES, step, 3).mean((1, 3))
    means[..., 0] -= means[..., 0].mean()
    means[..., 1:] = 2 * (means[..., 1:] - 128)
    return np.asarray(means.ravel(), np.float32)


def _unit(values: Floats) -> Floats:
    length = np.sqrt((values**2).sum())
    return np.asarray(values / max(length, 1e-6), np.float32)
