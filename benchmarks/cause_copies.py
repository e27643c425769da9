"""Copies of good photos with known faults, to learn causes from.

A copy has no fault, one or two. In half of the copies they come in the order of optics, sensor,
editing, file; in the others noise, light and color come in any order: a camera's exposure comes
before its noise, and a scanner's noise after all editing. The label of a copy holds the severity of
each cause in points (`causes.severity`), by people's opinions of that degradation.

So that faults of other origin are recognized too, each is made in several ways that people's
opinions can be carried over to: noise of any kind by its variance, blur by its width, exposure by
the mean, frames of videos by the error. Left out on purpose, for checks on what was never seen: box
blur, quantization tables but libjpeg's (and these tilted), noise before demosaicing, WebP, stops of
light that are clipped, S-shaped curves.

Nothing of a photo's file is assumed clean of what it lived through: a copy may be reduced, cropped
and mirrored before, its black and white points may be moved, and it may be saved as a good JPEG at
the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from cause_faults import Draw, Maker, of_cells, opinion_kept, points
from cause_files import coded, compression, filmed, saved_jpeg, smoothed
from cause_tones import any_contrast, contrast, exposure, film
from qfm_iqm.arrays import Bytes
from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import resized
from qfm_iqm.training.degradations import Cells

_ORDER = ("blur", "noise", "exposure", "contrast", "color", "compression")
Emphasis = Literal["", "light", "files", "video", "film", "codecs", "two", "tones"]
_CHANCE: dict[Emphasis, tuple[float, ...]] = {  # of each of `CAUSES`
    "": (0.21, 0.21, 0.23, 0.12, 0.1, 0.13),
    "light": (0.13, 0.13, 0.14, 0.26, 0.18, 0.16),
    "files": (0.1, 0.1, 0.6, 0.07, 0.06, 0.07),
    "video": (0.17, 0.12, 0.5, 0.11, 0.05, 0.05),
    "film": (0.1, 0.12, 0.15, 0.33, 0.17, 0.13),
    "codecs": (0.2, 0.08, 0.5, 0.08, 0.07, 0.07),
    "two": (0.2, 0.22, 0.22, 0.16, 0.06, 0.14),
    "tones": (0.0, 0.0, 0.0, 0.45, 0.3, 0.25),
}
_FAULTS: dict[Emphasis, tuple[float, ...]] = {  # none, one, two
    "": (0.24, 0.46, 0.3),
    "light": (0.16, 0.44, 0.4),
    "files": (0.1, 0.55, 0.35),
    "video": (0.05, 0.5, 0.45),
    "film": (0.15, 0.4, 0.45),
    "codecs": (0.08, 0.5, 0.42),
    "two": (0.0, 0.1, 0.9),
    "tones": (0.3, 0.5, 0.2),
}


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
        emphasis: what there is more of: "light", faults of light and color, in more ways; "files",
            compression by codecs that smooth their blocks; "video", by those of videos too;
            "codecs", by HEVC too; "film", exposure as on a film; "two", copies with two faults.
            "tones": faults of light and color alone.
    """
    pixels_HWC = _another_view(pixels_HWC, draw)
    number = int(draw.choice(3, p=_FAULTS[emphasis]))
    causes = set(draw.choice(CAUSES, number, replace=False, p=_CHANCE[emphasis]).tolist())
    order = _ORDER
    if emphasis != "tones" and draw.random() < 0.5:
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
        pixels_HWC = saved_jpeg(pixels_HWC, draw.uniform(82, 98), draw)
    return Copy(pixels_HWC, severities, " + ".join(faults) or "none")


def relit(pixels_HWC: Bytes, cells: Cells, draw: Draw) -> Copy:
    """Draws one or two faults of light and color that change each pixel for itself.

    So they may be made of any pixels of a photo, its views too.
    """
    causes = draw.choice(_TONES, int(draw.choice([1, 1, 2])), replace=False, p=_TONES_CHANCE)
    severities, faults = np.zeros(len(CAUSES), np.float32), []
    for cause in causes.tolist():
        pixels_HWC, said, kept = _TONE_MAKERS[cause](pixels_HWC, cells, draw)
        severities[CAUSES.index(cause)] = points(kept)
        faults.append(said)
    return Copy(pixels_HWC, severities, " + ".join(faults))


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
    cut = np.ascontiguousarray(pixels[top : top + height, left : left + width])
    return _scanned(cut, draw) if draw.random() < 0.4 else cut


def _scanned(pixels: Bytes, draw: Draw) -> Bytes:
    """Other black and white points, as scans and cameras differ: no fault."""
    black, white = 20 * draw.random() ** 2, 255 - 20 * draw.random() ** 2
    levels = np.linspace(black, white, 256)
    return np.asarray(np.rint(levels).astype(np.uint8)[pixels], np.uint8)


def _blur(pixels: Bytes, cells: Cells, draw: Draw) -> tuple[Bytes, str, float]:
    chance = draw.random()
    if chance < 0.6:
        return of_cells("blur")(pixels, cells, draw)
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
        return of_cells("noise")(pixels, cells, draw)
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


_MAKERS_OF: dict[Emphasis, dict[str, Maker]] = {
    "": {},
    "light": {"exposure": exposure, "contrast": any_contrast},
    "files": {"compression": smoothed},
    "video": {"compression": filmed, "exposure": film},
    "film": {"compression": filmed, "exposure": film, "contrast": any_contrast},
    "codecs": {"compression": coded, "exposure": film},
    "two": {"compression": coded, "exposure": film},
    "tones": {"exposure": film, "contrast": any_contrast},
}
_MAKERS: dict[str, Maker] = {
    "blur": _blur,
    "noise": _noise,
    "compression": compression,
    "exposure": of_cells("exposure"),
    "contrast": contrast,
    "color": of_cells("color"),
}
_TONES, _TONES_CHANCE = ("exposure", "contrast", "color"), (0.5, 0.3, 0.2)
_TONE_MAKERS: dict[str, Maker] = {
    "exposure": film,
    "contrast": any_contrast,
    "color": of_cells("color", ("color saturation 1", "color saturation 2")),
}
