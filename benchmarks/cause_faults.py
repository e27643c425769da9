"""Shared by the makers of faults: kinds that people rated, and opinions at any strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import CLEAN, Cells, kept_by

Draw = np.random.Generator
Maker = Callable[[Bytes, Cells, Draw], tuple[Bytes, str, float]]
"""Maps pixels to pixels with a fault, its description, and the share of quality that remains."""
HELD_OUT = ("webp",)
GOOD, FLOOR = 80.0, 18.0  # scores of a good photo and of a fully degraded one

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "blur": ("gaussian blur", "lens blur", "motion blur"),
        "noise": (
            "white noise",
            "white noise in color components",
            "impulse noise",
            "multiplicative noise",
            "denoise",
        ),
        "compression": ("jpeg", "jpeg2000", "webp", "avif", "pixelate"),
        "exposure": ("brighten", "darken", "mean shift"),
        "contrast": ("contrast change",),
        "color": (
            "color saturation 1",
            "color saturation 2",
            "color quantization",
            "quantization",
        ),
    }
)
"""The kinds of `image.distortions` with known opinions that make each cause.

Denoising counts as noise, pixelation as compression, too few colors as color.
"""


def points(kept: float) -> float:
    """The severity of a fault that leaves a share `kept` of a good photo's quality."""
    return (GOOD - FLOOR) * (1 - kept)


def kept_at(strength: float, levels: Iterable[tuple[float, float]]) -> float:
    """The share of quality that remains at a strength between levels (strength, opinion)."""
    strengths, opinions = np.array(sorted(levels)).T
    return kept_by(float(np.interp(strength, strengths, opinions)))


def of_cells(cause: str, among: tuple[str, ...] | None = None) -> Maker:
    """A maker of a cause's rated faults: draws a kind and a strength from the raters' table.

    Args:
        cause: one of `causes.severity.CAUSES`.
        among: the kinds to draw from; None for all kinds of the cause except `HELD_OUT`.
    """
    kinds = among or tuple(kind for kind in KINDS[cause] if kind not in HELD_OUT)

    def made(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
        step = cells.draw(draw, among=kinds)
        pixels = distort(pixels, step.kind, step.strength, int(draw.integers(1 << 32)))
        return pixels, f"{step.kind} {step.strength:.4g}", step.kept

    return made


def opinion_kept(cells: Cells, kind: str, strength: float) -> float:
    """The share of quality that remains at a strength between or beyond the levels."""
    levels = sorted((1e-9 + abs(value), opinion) for value, opinion in cells.levels[kind])
    if levels[0][1] < levels[-1][1]:  # higher is better
        levels = [(levels[0][0] / 4, 1.1), *levels, (100.0, CLEAN)]
    else:
        levels = [(levels[0][0] / 4, CLEAN), *levels, (4 * levels[-1][0], 1.1)]
    logs = [(math.log(value), opinion) for value, opinion in levels]
    return kept_at(math.log(max(strength, 1e-9)), logs)
