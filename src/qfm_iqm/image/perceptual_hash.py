"""Perceptual hashes (pHash): 64 bits that survive re-encoding, resizing and brightening of a photo.

The bits say which of the 8 x 8 lowest frequencies of the 32 x 32 gray image lie above their median.
Mirrored, rotated or strongly cropped copies have other hashes; images without structure, such as
all-black ones, cannot be distinguished.

The limit of 6 bits is ours, determined on BIQ2021: pairs with the same `content` id differ by at
most 2 bits. Pairs with different ids within 6 bits almost all show the same scene; at 8 bits some
are false, at 14 most. benchmarks/near_duplicates.py counts them.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from qfm_iqm.arrays import Bytes

MAX_DISTANCE = 6  # largest Hamming distance of near-duplicates

_SIDE = 32  # side of the gray image that is transformed
_LOWEST = 8  # lowest frequencies per side


def perceptual_hash(pixels_CHW: Bytes) -> Bytes:
    """The pHash of RGB pixels (3, H, W), uint8, as 8 bytes."""
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    lowest = dctn(np.asarray(gray, np.float64))[:_LOWEST, :_LOWEST]
    bits: npt.NDArray[np.bool_] = lowest > np.median(lowest)
    return np.packbits(bits)
