"""Photographic degradations of known strength, for training, diagnostics and demonstrations.

Each maps 8-bit RGB pixels (H, W, 3) of any size to such pixels. The result depends only on pixels,
strength and seed; no global random state is used.

Most are types of KADID-10k (Lin, Hosu and Saupe, QoMEX 2019) with its authors' parameters, so that
its ratings of a type and strength apply. Types that no camera, codec or editor causes (shuffled
pixels, inserted patches) are left out; WebP, AVIF and lost resolution are added.
"""

import io
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.arrays import Bytes, Floats
from qfm_iqm.image.blur_kernels import disk, line

Draw = np.random.Generator
Distortion = Callable[[Bytes, float, Draw], Bytes]

LEVELS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "gaussian blur": (0.6, 1.0, 1.7, 2.9, 5.0),
        "jpeg": (60, 35, 20, 10, 4),
        "jpeg2000": (20, 45, 90, 180, 360),
        "white noise": (0.0004, 0.0016, 0.0049, 0.0144, 0.04),
        "low contrast": (0.85, 0.70, 0.50, 0.30, 0.15),
        "resample": (1.5, 2, 3, 5, 8),
    }
)
"""The strengths of level 1 (just visible) to level 5 (severe), for kinds used in graded tests.

They are ours, in roughly even steps of visibility. They are not KADID-10k's, so its ratings do not
apply to these levels.
"""


def distort(pixels_HWC: Bytes, kind: str, strength: float, seed: int = 0) -> Bytes:
    """Degrades an image.

    Args:
        pixels_HWC: RGB pixels (H, W, 3), uint8.
        kind: a key of `DISTORTIONS`.
        strength: strength in the unit of the kind; see its function.
        seed: random seed, for noise and the direction of motion blur.

    Returns:
        The degraded pixels, same shape, uint8.

    Raises:
        ValueError: there is no such kind, or the strength is out of its range.
    """
    if kind not in DISTORTIONS:
        raise ValueError(f"no distortion named {kind!r}; choose one of {', '.join(DISTORTIONS)}")
    return DISTORTIONS[kind](
        np.ascontiguousarray(pixels_HWC), strength, np.random.default_rng(seed)
    )


def distort_at(pixels_HWC: Bytes, kind: str, level: int, seed: int = 0) -> Bytes:
    """Degrades an image at one of the five levels of `LEVELS`.

    Raises:
        ValueError: there is no such kind or level.
    """
    if kind not in LEVELS:
        raise ValueError(f"no levels of {kind!r}; choose one of {', '.join(LEVELS)}")
    if level not in range(1, 6):
        raise ValueError(f"no level {level!r}; choose one of 1..5")
    return distort(pixels_HWC, kind, LEVELS[kind][level - 1], seed)


# ---- blur ----


def _gaussian_blur(pixels: Bytes, sigma: float, _: Draw) -> Bytes:
    """Gaussian of `sigma` pixels, cut at two sigma, edges replicated (MATLAB's imgaussfilt)."""
    _at_least(sigma, 0)
    side = 2 * math.ceil(2 * sigma) + 1
    if side == 1:
        return pixels.copy()
    return _bytes(cv2.GaussianBlur(_floats(pixels), (side, side), sigma, borderType=_REPEAT))


def _lens_blur(pixels: Bytes, radius: float, _: Draw) -> Bytes:
    """Average over a disk of `radius` pixels (MATLAB's fspecial('disk'))."""
    _at_least(radius, 0)
    return _convolved(pixels, disk(radius))


def _motion_blur(pixels: Bytes, length: float, draw: Draw) -> Bytes:
    """Average along a line of `length` pixels at a random angle (MATLAB's fspecial('motion'))."""
    _at_least(length, 1)
    return _convolved(pixels, line(length, draw.uniform(0, math.pi)))


def _resample(pixels: Bytes, factor: float, _: Draw) -> Bytes:
    """Reduction by `factor` with area averaging, then bicubic enlargement."""
    _at_least(factor, 1)
    height, width = pixels.shape[:2]
    smaller = max(1, round(width / factor)), max(1, round(height / factor))
    reduced = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _pixelate(pixels: Bytes, strength: float, _: Draw) -> Bytes:
    """Reduction to .95 - strength ** .6 of each side and enlargement, both nearest neighbor."""
    share = 0.95 - strength**0.6
    if not 0 < share <= 1:
        raise ValueError(f"the strength of pixelate must leave some of an image, not {strength}")
    height, width = pixels.shape[:2]
    smaller = max(1, round(width * share)), max(1, round(height * share))
    reduced = cv2.resize(pixels, smaller, interpolation=cv2.INTER_NEAREST)
    return np.asarray(
        cv2.resize(reduced, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8
    )


# ---- compression ----


def _jpeg(pixels: Bytes, quality: float, _: Draw) -> Bytes:
    """JPEG, 4:2:0, with libjpeg's `quality`, 1 (worst) to 100."""
    return _recoded(pixels, "JPEG", quality=_whole(quality, 1, 100), subsampling="4:2:0")


def _jpeg2000(pixels: Bytes, rate: float, _: Draw) -> Bytes:
    """JPEG 2000 with the irreversible wavelet and the compression ratio `rate`."""
    _at_least(rate, 1)
    options = {"quality_mode": "rates", "quality_layers": [rate], "irreversible": True}
    return _recoded(pixels, "JPEG2000", **options)


def _webp(pixels: Bytes, quality: float, _: Draw) -> Bytes:
    """WebP with libwebp's `quality`, 0 (worst) to 100."""
    return _recoded(pixels, "WEBP", quality=_whole(quality, 0, 100), method=2)


def _avif(pixels: Bytes, quality: float, _: Draw) -> Bytes:
    """AVIF, 4:2:0, with libavif's `quality`, 0 (worst) to 100."""
    return _recoded(pixels, "AVIF", quality=_whole(quality, 0, 100), speed=9, subsampling="4:2:0")


# ---- noise ----

_MOST_DENOISED = 55.0  # standard deviation in 8-bit levels


def _white_noise(pixels: Bytes, variance: float, draw: Draw) -> Bytes:
    """Gaussian noise of `variance` (values in [0, 1]) on each pixel and color."""
    return _bytes(_floats(pixels) + _gaussian(pixels, variance, draw))


def _color_noise(pixels: Bytes, variance: float, draw: Draw) -> Bytes:
    """Gaussian noise of `variance` on luma and both chroma components (Y'CbCr)."""
    components = cv2.cvtColor(_floats(pixels), cv2.COLOR_RGB2YCrCb)
    noisy = components + _gaussian(pixels, variance, draw)
    return _bytes(cv2.cvtColor(noisy, cv2.COLOR_YCrCb2RGB))


def _impulse_noise(pixels: Bytes, share: float, draw: Draw) -> Bytes:
    """Sets a `share` of all values to black or white (salt and pepper)."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share of impulses must be in 0..1, not {share}")
    drawn = draw.random(pixels.shape, dtype=np.float32)
    noisy = pixels.copy()
    noisy[drawn < share / 2] = 0
    noisy[drawn >= 1 - share / 2] = 255
    return noisy


def _speckle_noise(pixels: Bytes, variance: float, draw: Draw) -> Bytes:
    """Multiplicative noise: x + x n, with n Gaussian of `variance`."""
    values = _floats(pixels)
    return _bytes(values + values * _gaussian(pixels, variance, draw))


def _denoise(pixels: Bytes, variance: float, draw: Draw) -> Bytes:
    """White noise of `variance`, mostly removed by non-local means.

    Each color is denoised separately. KADID-10k's authors used a network for noise of up to
    `_MOST_DENOISED` levels, so more is left of stronger noise.
    """
    noisy = _white_noise(pixels, variance, draw)
    strength = 0.9 * min(255 * math.sqrt(variance), _MOST_DENOISED)
    if not strength:
        return noisy
    cleaned = [cv2.fastNlMeansDenoising(plane, None, strength, 5, 11) for plane in cv2.split(noisy)]
    return np.asarray(cv2.merge(cleaned), np.uint8)


# ---- light and color ----


def _brighten(pixels: Bytes, strength: float, _: Draw) -> Bytes:
    """A parabolic tone curve through (0, 0), (.5, .5 + strength / 2), (1, 1)."""
    return _curved(pixels, (0, 0.5, 1), (0, 0.5 + strength / 2, 1))


def _darken(pixels: Bytes, strength: float, _: Draw) -> Bytes:
    """A parabolic tone curve through (0, 0), (.5, .5 - strength / 2), (1, 1)."""
    return _curved(pixels, (0, 0.5, 1), (0, 0.5 - strength / 2, 1))


def _mean_shift(pixels: Bytes, shift: float, _: Draw) -> Bytes:
    """Adds `shift` to all values (in [0, 1]) and clips them."""
    return _bytes(_floats(pixels) + shift)


def _contrast_change(pixels: Bytes, strength: float, _: Draw) -> Bytes:
    """A tone curve through 0, .25 - strength / 4, .5, .75 + strength / 4, 1 at equal steps."""
    points = (0, 0.25, 0.5, 0.75, 1)
    return _curved(pixels, points, (0, 0.25 - strength / 4, 0.5, 0.75 + strength / 4, 1))


def _low_contrast(pixels: Bytes, factor: float, _: Draw) -> Bytes:
    """Multiplies the difference from the image's mean value by `factor`."""
    _at_least(factor, 0)
    values = _floats(pixels)
    mean = values.mean(dtype=np.float64)
    return _bytes((mean + factor * (values - mean)).astype(np.float32))


def _saturation(pixels: Bytes, factor: float, _: Draw) -> Bytes:
    """Multiplies the HSV saturation by `factor`; negative factors invert colors."""
    values = _floats(pixels)
    hsv = cv2.cvtColor(values, cv2.COLOR_RGB2HSV)
    saturation, value = hsv[..., 1], hsv[..., 2:]
    # At a fixed hue, RGB = V (1 - S c) with a constant c per color: linear in S, also for S < 0.
    gray = np.repeat(value, 3, axis=2)
    wanted = np.minimum(factor * saturation, 1)[..., None]
    own = np.maximum(saturation, 1e-6)[..., None]
    return _bytes(gray - (gray - values) * (wanted / own))


def _lab_saturation(pixels: Bytes, factor: float, _: Draw) -> Bytes:
    """Multiplies the CIELAB color components by `factor`."""
    lab = cv2.cvtColor(_floats(pixels), cv2.COLOR_RGB2LAB)
    lab[..., 1:] = lab[..., 1:] * np.float32(factor)
    return _bytes(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def _color_quantization(pixels: Bytes, colors: float, _: Draw) -> Bytes:
    """Quantizes to a dithered palette of `colors` colors (median cut)."""
    palette = Image.fromarray(pixels).quantize(_whole(colors, 2, 256), Image.Quantize.MEDIANCUT)
    return np.asarray(palette.convert("RGB"))


def _quantization(pixels: Bytes, levels: float, _: Draw) -> Bytes:
    """Quantizes each color channel to `levels` evenly spaced levels."""
    number = _whole(levels, 2, 256)
    steps = np.minimum(np.arange(256) * number // 256, number - 1)
    table = np.rint(steps * (255 / (number - 1))).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table), np.uint8)


def _sharpen(pixels: Bytes, amount: float, _: Draw) -> Bytes:
    """Unsharp masking with a Gaussian of three pixels, weighted by `amount`."""
    values = _floats(pixels)
    blurred = cv2.GaussianBlur(values, (13, 13), 3, borderType=_REPEAT)
    return _bytes(values + amount * (values - blurred))


DISTORTIONS: Mapping[str, Distortion] = MappingProxyType(
    {
        "gaussian blur": _gaussian_blur,
        "lens blur": _lens_blur,
        "motion blur": _motion_blur,
        "resample": _resample,
        "pixelate": _pixelate,
        "jpeg": _jpeg,
        "jpeg2000": _jpeg2000,
        "webp": _webp,
        "avif": _avif,
        "white noise": _white_noise,
        "white noise in color components": _color_noise,
        "impulse noise": _impulse_noise,
        "multiplicative noise": _speckle_noise,
        "denoise": _denoise,
        "brighten": _brighten,
        "darken": _darken,
        "mean shift": _mean_shift,
        "contrast change": _contrast_change,
        "low contrast": _low_contrast,
        "color saturation 1": _saturation,
        "color saturation 2": _lab_saturation,
        "color quantization": _color_quantization,
        "quantization": _quantization,
        "high sharpen": _sharpen,
    }
)
"""The degradations by name; KADID-10k's names where it has the type."""


# ---- shared arithmetic ----

_REPEAT = cv2.BORDER_REPLICATE


def _floats(pixels: Bytes) -> Floats:
    return pixels.astype(np.float32) / np.float32(255)


def _bytes(values: npt.NDArray[Any]) -> Bytes:
    rounded: Bytes = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return rounded


def _convolved(pixels: Bytes, kernel: Floats) -> Bytes:
    return _bytes(cv2.filter2D(_floats(pixels), -1, kernel, borderType=_REPEAT))


def _gaussian(pixels: Bytes, variance: float, draw: Draw) -> Floats:
    _at_least(variance, 0)
    return draw.standard_normal(pixels.shape, dtype=np.float32) * np.float32(math.sqrt(variance))


def _curved(pixels: Bytes, x: tuple[float, ...], y: tuple[float, ...]) -> Bytes:
    """Applies the polynomial tone curve through the points."""
    curve = np.polynomial.Polynomial.fit(x, y, len(x) - 1)
    return np.asarray(cv2.LUT(pixels, _bytes(curve(np.arange(256) / 255))), np.uint8)


def _recoded(pixels: Bytes, codec: str, **options: Any) -> Bytes:
    """Encodes pixels with one of Pillow's encoders and decodes them."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, codec, **options)
    with Image.open(encoded) as image:
        return np.asarray(image.convert("RGB"))


def _whole(value: float, least: int, most: int) -> int:
    if not least <= round(value) <= most:
        raise ValueError(f"the strength must be in {least}..{most}, not {value}")
    return round(value)


def _at_least(value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"the strength must be at least {least}, not {value}")
