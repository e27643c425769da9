"""Copies of good photos with known faults, to learn causes from.

A copy has no fault, one or two, in the order in which photos meet them: optics, sensor, editing,
file. Its label holds the severity of each cause in points (`causes.severity`), by people's opinions
of that degradation.

So that faults of other origin are recognized too, each is made in several ways that people's
opinions can be carried over to: noise of any kind by its variance, blur by its width. Left out on
purpose, for checks on what was never seen: box blur, quantization tables but libjpeg's (and these
tilted), noise before demosaicing, WebP.

Nothing of a photo's file is assumed clean of what it lived through: a copy may be reduced, cropped
and mirrored before, and saved as a good JPEG at the end.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.causes.severity import CAUSES, KINDS, points
from qfm_iqm.image.decode import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import resized
from qfm_iqm.training.degradations import CLEAN, Cells

Draw = np.random.Generator
Maker = Callable[[Bytes, Cells, Draw], tuple[Bytes, str, float]]
HELD_OUT = ("webp",)
_ORDER = ("blur", "noise", "exposure", "contrast", "color", "compression")
Emphasis = Literal["", "light", "files"]
_CHANCE: dict[Emphasis, tuple[float, ...]] = {  # of each of `CAUSES`
    "": (0.21, 0.21, 0.23, 0.12, 0.1, 0.13),
    "light": (0.13, 0.13, 0.14, 0.26, 0.18, 0.16),
    "files": (0.1, 0.1, 0.6, 0.07, 0.06, 0.07),
}
_FAULTS: dict[Emphasis, tuple[float, ...]] = {  # none, one, two
    "": (0.24, 0.46, 0.3),
    "light": (0.16, 0.44, 0.4),
    "files": (0.1, 0.55, 0.35),
}
_TABLE = np.asarray(  # of T.81, annex K, luma
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
     14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
     92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)  # fmt: skip
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


@dataclass(frozen=True)
class Copy:
    """A copy of a photo.

    Attributes:
        pixels: (H, W, 3), uint8.
        severities: of each of `CAUSES`, in points.
        faults: what was done, in words.
    """

    pixels: Bytes
    severities: npt.NDArray[np.float32]
    faults: str


def drawn_copy(pixels_HWC: Bytes, cells: Cells, draw: Draw, emphasis: Emphasis = "") -> Copy:
    """Draws a copy of a good photo.

    Args:
        pixels_HWC: the photo, uint8.
        cells: people's opinions of degradations.
        draw: what is drawn from.
        emphasis: "light" for more faults of light and color, in more ways and at any place in the
            order; "files" for more compression, by codecs that smooth their blocks.
    """
    pixels_HWC = _another_view(pixels_HWC, draw)
    number = int(draw.choice(3, p=_FAULTS[emphasis]))
    causes = set(draw.choice(CAUSES, number, replace=False, p=_CHANCE[emphasis]).tolist())
    order = _ORDER
    if emphasis == "light" and draw.random() < 0.5:
        order = ("blur", *draw.permutation(_ORDER[1:-1]).tolist(), "compression")
    if not causes & {"blur"} and draw.random() < 0.12:
        pixels_HWC = distort(pixels_HWC, "high sharpen", draw.uniform(0.1, 0.6))
    severities, faults = np.zeros(len(CAUSES), np.float32), []
    for cause in (one for one in order if one in causes):
        make = (_MAKERS | _MAKERS_OF[emphasis])[cause]
        pixels_HWC, said, kept = make(pixels_HWC, cells, draw)
        severities[CAUSES.index(cause)] = points(kept)
        faults.append(said)
    if draw.random() < 0.35:
        pixels_HWC = _saved(pixels_HWC, draw.uniform(82, 98), draw)
    return Copy(pixels_HWC, severities, " + ".join(faults) or "none")


def opinion_kept(cells: Cells, kind: str, strength: float) -> float:
    """The share of quality that people see left at a strength between, or beyond, the levels."""
    levels = sorted((1e-9 + abs(value), opinion) for value, opinion in cells.levels[kind])
    if levels[0][1] < levels[-1][1]:  # more is better
        levels = [(levels[0][0] / 4, 1.1), *levels, (100.0, CLEAN)]
    else:
        levels = [(levels[0][0] / 4, CLEAN), *levels, (4 * levels[-1][0], 1.1)]
    strengths, opinions = np.array(levels).T
    at = np.interp(math.log(max(strength, 1e-9)), np.log(strengths), opinions)
    return float(min(1.0, max(0.0, (at - 1) / (CLEAN - 1))))


# ---- what is done to the photo ----


def _another_view(pixels: Bytes, draw: Draw) -> Bytes:
    if draw.random() < 0.5:
        pixels = pixels[:, ::-1]
    if draw.random() < 0.25:
        pixels = np.rot90(pixels)
    if draw.random() < 0.6:
        scale = draw.uniform(0.5, 0.95)
        size = tuple(round(side * scale) for side in pixels.shape[:2])
        pixels = resized(pixels, (size[0], size[1]), draw.choice(["bicubic", "bilinear"]))
    share = draw.uniform(0.75, 1)
    height, width = (max(64, round(side * share)) for side in pixels.shape[:2])
    top = int(draw.integers(pixels.shape[0] - height + 1))
    left = int(draw.integers(pixels.shape[1] - width + 1))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _of_cells(cause: str) -> Maker:
    kinds = tuple(kind for kind in KINDS[cause] if kind not in HELD_OUT)

    def made(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
        step = cells.draw(draw, among=kinds)
        pixels = distort(pixels, step.kind, step.strength, int(draw.integers(1 << 32)))
        return pixels, f"{step.kind} {step.strength:.4g}", step.kept

    return made


def _blur(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    chance = draw.random()
    if chance < 0.6:
        return _of_cells("blur")(pixels, cells, draw)
    sigma = math.exp(draw.uniform(math.log(0.6), math.log(5)))
    kept = opinion_kept(cells, "gaussian blur", sigma)
    if chance < 0.8:  # reduced and enlarged again
        factor = 1 + 2.2 * sigma
        height, width = pixels.shape[:2]
        small = max(2, round(height / factor)), max(2, round(width / factor))
        method = int(draw.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
        reduced = resized(pixels, small, "bicubic")
        enlarged = cv2.resize(reduced, (width, height), interpolation=method)
        return np.asarray(enlarged, np.uint8), f"resampled {sigma:.3g}", kept
    ratio = draw.uniform(1, 2.2)  # wider one way
    kernel = _oblique(sigma * ratio**0.5, sigma / ratio**0.5, draw.uniform(0, math.pi))
    blurred = cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.uint8), f"oblique blur {sigma:.3g}", kept


def _oblique(one: float, other: float, angle: float) -> npt.NDArray[np.float32]:
    reach = max(1, math.ceil(2.5 * max(one, other)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-((along / one) ** 2 + (across / other) ** 2) / 2)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _noise(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    if draw.random() < 0.5:
        return _of_cells("noise")(pixels, cells, draw)
    variance = math.exp(draw.uniform(math.log(0.0004), math.log(0.015)))
    values = pixels.astype(np.float32) / 255
    height, width = values.shape[:2]
    noise = draw.standard_normal((height, width, 3), dtype=np.float32)
    gray = float(draw.choice([0, 0, 0.5, 1]))  # share that all colors have in common
    noise = gray * noise[..., :1] + (1 - gray) * noise
    sigma = float(draw.choice([0, 0.4, 0.6, 0.8, 1.1]))  # of neighbors in common
    if sigma:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), np.float32)
    if draw.random() < 0.25:  # blotches of color
        scale = float(draw.choice([2, 4]))
        coarse = draw.standard_normal(
            (max(2, int(height / scale)), max(2, int(width / scale)), 3), dtype=np.float32
        )
        noise += 0.5 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    light = np.asarray(values.mean(2, keepdims=True), np.float32)
    shape = int(draw.integers(4))  # even, more in the light, in the dark, in the middle
    noise *= (1, 0.3 + light, 1.3 - light, 0.4 + 2 * light * (1 - light))[shape]
    noise *= math.sqrt(variance) / max(float(noise.std()), 1e-6)
    noisy = np.rint(np.clip(values + noise, 0, 1) * 255).astype(np.uint8)
    said = f"noise {variance:.4g}"
    if draw.random() < 0.3:  # a camera's noise reduction leaves some
        strength = draw.uniform(0.3, 0.8)
        smooth = cv2.medianBlur(noisy, 3) if draw.random() < 0.5 else _bilateral(noisy, variance)
        noisy = np.asarray(cv2.addWeighted(noisy, 1 - strength, smooth, strength, 0), np.uint8)
        said += " reduced"
    left = float(((noisy.astype(np.float32) / 255 - values) ** 2).mean())
    return noisy, said, opinion_kept(cells, "white noise", min(left, 1.3 * variance))


def _bilateral(pixels: Bytes, variance: float) -> Bytes:
    return np.asarray(cv2.bilateralFilter(pixels, 5, 2 * 255 * math.sqrt(variance), 2), np.uint8)


def _compression(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    if draw.random() < 0.45:
        return _of_cells("compression")(pixels, cells, draw)
    quality = math.exp(draw.uniform(math.log(4), math.log(50)))
    if draw.random() < 0.3:  # saved before, and cut since
        pixels = _saved(pixels, draw.uniform(50, 95), draw)
        top, left = draw.integers(8, size=2)
        pixels = np.ascontiguousarray(pixels[top:, left:])
    tilt = float(draw.choice([0, 0, draw.uniform(-0.7, 0.8)]))
    kept = opinion_kept(cells, "jpeg", quality)
    return _saved(pixels, quality, draw, tilt), f"jpeg {quality:.3g} {tilt:.2g}", kept


def _saved(pixels: Bytes, quality: float, draw: Draw, tilt: float = 0) -> Bytes:
    """A JPEG of libjpeg's quality, its tables tilted towards low or high frequencies."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    frequency = np.add.outer(np.arange(8), np.arange(8)).ravel() / 14
    tables = []
    for table in (_TABLE, _CHROMA.ravel()):
        tilted = table * scale * np.exp(tilt * (0.35 - frequency) * 2)
        tables.append(np.clip(np.rint(tilted), 1, 255).astype(int).tolist())
    encoded = io.BytesIO()
    sampling = str(draw.choice(["4:2:0", "4:2:0", "4:2:2", "4:4:4"]))
    Image.fromarray(pixels).save(encoded, "JPEG", qtables=tables, subsampling=sampling)
    with Image.open(encoded) as image:
        return np.asarray(image.convert("RGB"))


def _contrast(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    if draw.random() < 0.6:
        return _of_cells("contrast")(pixels, cells, draw)
    factor = draw.uniform(0.25, 0.85)  # as the curve of that slope in the middle
    low = [(1 + s, opinion) for s, opinion in cells.levels["contrast change"] if s <= 0]
    slopes, opinions = np.array(sorted([*low, (0.1, 1.8)])).T
    kept = (float(np.interp(factor, slopes, opinions)) - 1) / (CLEAN - 1)
    values = pixels.astype(np.float32) / 255
    level = float(draw.choice([values.mean(), 0.5, 0.7]))
    flat = level + factor * (values - level)
    return np.rint(flat * 255).astype(np.uint8), f"low contrast {factor:.3g}", min(1.0, kept)


def _exposure(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    if draw.random() < 0.55:
        return _of_cells("exposure")(pixels, cells, draw)
    # A power, as far from the diagonal in the middle as the parabola of that strength.
    kind, sign, most = (("brighten", 1, 0.95), ("darken", -1, 0.85))[int(draw.integers(2))]
    strength = draw.uniform(0.1, most)
    power = math.log(0.5 + sign * strength / 2) / math.log(0.5)
    found = np.rint(np.power(pixels.astype(np.float32) / 255, power) * 255).astype(np.uint8)
    strengths, opinions = np.array(sorted(cells.levels[kind])).T
    kept = (float(np.interp(strength, strengths, opinions)) - 1) / (CLEAN - 1)
    return found, f"power {power:.3g}", min(1.0, kept)


def _any_contrast(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
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
    known = [(0.0, CLEAN), *cells.levels["contrast change"], (-0.9, 1.8), (0.6, 2.5)]
    del known[3]  # what raters said of no change
    strengths, opinions = np.array(sorted(known)).T
    kept = (float(np.interp(strength, strengths, opinions)) - 1) / (CLEAN - 1)
    return found, f"contrast {strength:.3g}", min(1.0, kept)


def _smoothed(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    """Codecs that smooth their blocks: AVIF, and JPEG through a filter."""
    chance = draw.random()
    if chance < 0.2:
        return _of_cells("compression")(pixels, cells, draw)
    if chance < 0.55:
        step = cells.draw(draw, among=("avif",))
        return distort(pixels, "avif", step.strength), f"avif {step.strength:.0f}", step.kept
    quality = math.exp(draw.uniform(math.log(4), math.log(32)))
    kept = opinion_kept(cells, "jpeg", quality)
    blocky = _saved(pixels, quality, draw, float(draw.uniform(-0.5, 0.5)))
    reach = int(draw.choice([5, 7]))
    smooth = cv2.bilateralFilter(blocky, reach, draw.uniform(12, 45), draw.uniform(1.5, 4))
    return np.asarray(smooth, np.uint8), f"smoothed jpeg {quality:.3g}", kept + 0.15 * (1 - kept)


_MAKERS_OF: dict[Emphasis, dict[str, Maker]] = {
    "": {},
    "light": {"exposure": _exposure, "contrast": _any_contrast},
    "files": {"compression": _smoothed},
}
_MAKERS: dict[str, Maker] = {
    "blur": _blur,
    "noise": _noise,
    "compression": _compression,
    "exposure": _of_cells("exposure"),
    "contrast": _contrast,
    "color": _of_cells("color"),
}
