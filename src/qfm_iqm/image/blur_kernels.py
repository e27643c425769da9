"""Kernels of lens blur and motion blur; their weights sum to one."""

import math

import numpy as np

from qfm_iqm.arrays import Floats


def disk(radius: float) -> Floats:
    """A disk like MATLAB's fspecial('disk'): each pixel's share of a circle of `radius` pixels.

    The share is sampled on a grid of 21 x 21 points per pixel.
    """
    reach, fine = max(0, math.ceil(radius - 0.5)), 21
    place = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = np.hypot(place[:, None], place) <= radius
    side = 2 * reach + 1
    kernel = inside.reshape(side, fine, side, fine).mean((1, 3))
    if not kernel.any():
        kernel[reach, reach] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def line(length: float, angle: float) -> Floats:
    """A line of `length` pixels, one pixel wide, like MATLAB's fspecial('motion').

    A pixel's weight decreases with its center's distance from the line. `angle` is in radians.
    """
    half = (length - 1) / 2
    reach = math.ceil(half) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = np.abs(x * math.cos(angle) - y * math.sin(angle))
    across = np.abs(x * math.sin(angle) + y * math.cos(angle))
    distance = np.hypot(np.maximum(along - half, 0), across)
    kernel = np.clip(1 - distance, 0, None)
    return np.asarray(kernel / kernel.sum(), np.float32)
