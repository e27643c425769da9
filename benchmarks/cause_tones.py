"""Faults of light, to learn causes from: exposure and contrast, in more ways than people rated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cause_faults import Draw, kept_at, of_cells
from qfm_iqm.arrays import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import CLEAN, Cells

Floats = npt.NDArray[Any]


def contrast(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """What raters saw, or values drawn together."""
    if draw.random() < 0.6:
        return of_cells("contrast")(pixels, cells, draw)
    factor = draw.uniform(0.25, 0.85)  # as the curve of that slope in the middle
    low = [(1 + s, opinion) for s, opinion in cells.levels["contrast change"] if s <= 0]
    kept = kept_at(factor, [*low, (0.1, 1.8)])
    values = pixels.astype(np.float32) / 255
    level = float(draw.choice([values.mean(), 0.5, 0.7]))
    flat = level + factor * (values - level)
    return np.rint(flat * 255).astype(np.uint8), f"low contrast {factor:.3g}", kept


def exposure(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """What raters saw, or a power of all values."""
    if draw.random() < 0.55:
        return of_cells("exposure")(pixels, cells, draw)
    # A power, as far from the diagonal in the middle as the parabola of that strength.
    kind, sign, most = (("brighten", 1, 0.95), ("darken", -1, 0.85))[int(draw.integers(2))]
    strength = draw.uniform(0.1, most)
    power = math.log(0.5 + sign * strength / 2) / math.log(0.5)
    found = np.rint(np.power(pixels.astype(np.float32) / 255, power) * 255).astype(np.uint8)
    return found, f"power {power:.3g}", kept_at(strength, cells.levels[kind])


def any_contrast(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Values drawn together or apart, by curves and by straight lines."""
    chance = draw.random()
    if chance < 0.65:
        strength = draw.uniform(-0.6, 0) if chance < 0.25 else draw.uniform(0.02, 0.3)
        found = distort(pixels, "contrast change", strength)
    else:
        strength = draw.uniform(-0.75, 0.35)
        values = pixels.astype(np.float32) / 255
        level = float(draw.choice([values.mean(), 0.5]))
        steep = np.clip(level + (1 + strength) * (values - level), 0, 1)
        found = np.rint(steep * 255).astype(np.uint8)
    known = [*cells.levels["contrast change"], (-0.9, 1.8), (0.6, 2.5)]
    return found, f"contrast {strength:.3g}", kept_at(strength, known)


def film(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """More or less light on a film whose curve has a shoulder: black stays, white moves.

    People's opinions are those of the parabola that gives the photo the same mean.
    """
    if draw.random() < 0.4:
        return exposure(pixels, cells, draw)
    stops = draw.uniform(-3, 0) if draw.random() < 0.55 else draw.uniform(0, 3)
    shoulder = draw.uniform(0.6, 2.5)
    levels = np.arange(256) / 255
    light = np.where(levels < 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    fell = -np.log(1 - light * (1 - math.exp(-shoulder)))  # on the film, as the photo was taken
    seen = (1 - np.exp(-fell * 2**stops)) / (1 - math.exp(-shoulder))
    shown = np.where(seen < 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    table = np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)
    found = table[pixels]
    values = levels[pixels[::4, ::4]]
    change = levels[found[::4, ::4]].mean() - values.mean()
    strength = change / max(1e-6, 2 * (values - values**2).mean())
    kind = "brighten" if strength > 0 else "darken"
    kept = kept_at(abs(strength), [(0.0, CLEAN), *cells.levels[kind]])
    return found, f"film {stops:.3g}", kept
