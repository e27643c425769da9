"""What a photo shows and where, in few numbers: to see that two photos show the same.

Directions of edges in 8 x 8 places, and colors in 4 x 4. Photos of one moment agree in them however
sharp, noisy or bright each is, and photos of different moments hardly. On photos that were framed,
exposed and degraded anew this tells the same photo from others far better than the features of the
scoring network, which knows above all what was done to a photo (benchmarks/culling.py).
"""

import numpy as np
from PIL import Image

from qfm_iqm.arrays import Bytes, Floats

_SIDE = 64  # of the gray image whose edges are looked at
_PLACES = 8  # a side, of edges
_DIRECTIONS = 8
_COLOR_PLACES = 4  # a side
_COLOR_SHARE = 1 / 3  # of the similarity
_FAINT = 10.0  # levels of gray: edges that are weaker in all count less


def layout(pixels_CHW: Bytes) -> Floats:
    """What a photo shows and where.

    Args:
        pixels_CHW: RGB (3, H, W), uint8.

    Returns:
        560 numbers of length 1 together: their products are the similarity of photos, at most 1.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("YCbCr")
    values_HWC = np.asarray(small, np.float32)
    edges, colors = _unit(_edges(values_HWC[..., 0])), _unit(_colors(values_HWC))
    return _unit(
        np.concatenate([np.sqrt(1 - _COLOR_SHARE) * edges, np.sqrt(_COLOR_SHARE) * colors])
    )


def _edges(gray_HW: Floats) -> Floats:
    """How much of the edges at each place runs in each direction, beside the photo's average."""
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
    """Mean Y'CbCr at each place: the luma beside the photo's average, so exposure is no matter."""
    step = _SIDE // _COLOR_PLACES
    means = values_HWC.reshape(_COLOR_PLACES, step, _COLOR_PLACES, step, 3).mean((1, 3))
    means[..., 0] -= means[..., 0].mean()
    means[..., 1:] = 2 * (means[..., 1:] - 128)
    return np.asarray(means.ravel(), np.float32)


def _unit(values: Floats) -> Floats:
    length = np.sqrt((values**2).sum())
    return np.asarray(values / max(length, 1e-6), np.float32)
