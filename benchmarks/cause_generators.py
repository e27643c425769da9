"""Faults of other programs and cameras than those in the training of the network of causes.

Each takes a photo and a level of KADID-10k's opinions (1 to 5). It is as strong as the kind of
degradation that it stands for: equal blur width, error, light or color. So that kind's opinions
nearly apply.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.arrays import Bytes
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import Cells

Draw = np.random.Generator
Floats = npt.NDArray[np.floating]

# N. Robidoux's table in ImageMagick and mozjpeg; its shape differs from libjpeg's.
_TABLE = np.asarray(
    [16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91,
     135, 18, 27, 31, 40, 53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94,
     124, 169, 238, 56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418]
)  # fmt: skip


def box_blur(pixels: Bytes, sigma: float, _: Draw) -> Bytes:
    """Blur by a square window as wide as a Gaussian of `sigma`."""
    width = math.sqrt(12 * sigma**2 + 1)
    reach = math.ceil((width - 1) / 2)
    line = np.ones(2 * reach + 1, np.float32)
    if reach:
        line[[0, -1]] = (width - (2 * reach - 1)) / 2
    kernel = line / line.sum()
    return np.asarray(cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT))


def other_jpeg(pixels: Bytes, quality: float, draw: Draw) -> Bytes:
    """A JPEG with other tables, without subsampling, with as large an error as libjpeg's."""
    wanted = _error(distort(pixels, "jpeg", quality), pixels)
    low, high = 0.02, 40.0
    for _ in range(9):
        scale = math.sqrt(low * high)
        found = _encoded(pixels, scale)
        if _error(found, pixels) < wanted:
            low = scale
        else:
            high = scale
    return found


def _encoded(pixels: Bytes, scale: float) -> Bytes:
    table = np.clip(np.rint(_TABLE * scale), 1, 255).astype(int).tolist()
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", qtables=[table, table], subsampling="4:4:4")
    with Image.open(encoded) as image:
        return np.asarray(image.convert("RGB"))


def sensor_noise(pixels: Bytes, variance: float, draw: Draw) -> Bytes:
    """Photon and read noise of a Bayer sensor, then demosaicing and a tone curve."""
    wanted = _error(distort(pixels, "white noise", variance, int(draw.integers(1 << 32))), pixels)
    light = (pixels.astype(np.float32) / 255) ** np.float32(2.2)
    light = light.astype(np.float32)
    height, width = light.shape[0] // 2 * 2, light.shape[1] // 2 * 2
    mosaic = _mosaic(light[:height, :width])
    photons, electrons = (draw.standard_normal(mosaic.shape, np.float32) for _ in range(2))
    clean = _demosaiced(mosaic)
    base = pixels[:height, :width].astype(np.float32)
    low, high = 1e-6, 3.0
    found: Bytes = pixels
    for _ in range(10):
        gain = math.sqrt(low * high)
        noisy = mosaic + np.sqrt(gain * mosaic) * photons + 0.04 * math.sqrt(gain) * electrons
        residual = _demosaiced(noisy).astype(np.float32) - clean
        found = np.rint(np.clip(base + residual, 0, 255)).astype(np.uint8)
        if _error(found, pixels[:height, :width]) < wanted:
            low = gain
        else:
            high = gain
    return found


def _mosaic(light: Floats) -> Floats:
    mosaic = light[..., 1].copy()
    mosaic[::2, ::2] = light[::2, ::2, 0]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2]
    return mosaic


def _demosaiced(mosaic: Floats) -> Bytes:
    deep = (np.clip(mosaic, 0, 1) * 65535).astype(np.uint16)
    colors = cv2.cvtColor(deep, cv2.COLOR_BayerBG2RGB).astype(np.float32) / 65535
    shown = np.power(colors, 1 / 2.2) * 255
    result: Bytes = np.rint(shown).astype(np.uint8)
    return result


def webp(pixels: Bytes, quality: float, _: Draw) -> Bytes:
    """WebP."""
    return distort(pixels, "webp", quality)


def _matched(
    kind: str,
    change: Callable[[Floats, float], Floats],
    low: float,
    high: float,
    measure: Callable[[Floats], float],
) -> Callable[[Bytes, float, Draw], Bytes]:
    """A change with one parameter, set to reach the `measure` of a kind of degradation."""

    def made(pixels: Bytes, strength: float, _: Draw) -> Bytes:
        values = pixels.astype(np.float32) / 255
        few = values[::4, ::4]  # enough to measure
        wanted = measure(distort(pixels, kind, strength)[::4, ::4].astype(np.float32) / 255)
        first, last = low, high
        rising = measure(change(few, high)) > measure(change(few, low))
        for _step in range(14):
            middle = (first + last) / 2
            if (measure(change(few, middle)) < wanted) == rising:
                first = middle
            else:
                last = middle
        return np.rint(np.clip(change(values, middle), 0, 1) * 255).astype(np.uint8)

    return made


def _stops(values: Floats, stops: float) -> Floats:
    """More or less light on the sensor, clipped."""
    light = np.power(values, 2.2) * np.float32(2.0**stops)
    return np.asarray(np.power(np.clip(light, 0, 1), 1 / 2.2))


def _sigmoid(values: Floats, steep: float) -> Floats:
    """An S-shaped curve through both ends, or its inverse."""
    reach = max(abs(steep), 1e-3)
    most = np.tanh(reach / 2)
    if steep >= 0:
        return np.asarray(0.5 + np.tanh(reach * (values - 0.5)) / (2 * most))
    return np.asarray(0.5 + np.arctanh(np.clip(2 * most * (values - 0.5), -0.9999, 0.9999)) / reach)


def _chroma(values: Floats, factor: float) -> Floats:
    gray = (values @ np.asarray([0.299, 0.587, 0.114], np.float32))[..., None]
    return np.asarray(np.clip(gray + np.float32(factor) * (values - gray), 0, 1))


def _spread(values: Floats) -> float:
    return float((values.max(2) - values.min(2)).mean())


GENERATORS: dict[str, tuple[str, str, Callable[[Bytes, float, Draw], Bytes]]] = {
    "box blur": ("blur", "gaussian blur", box_blur),
    "other jpeg": ("compression", "jpeg", other_jpeg),
    "webp": ("compression", "webp", webp),
    "sensor noise": ("noise", "white noise", sensor_noise),
    "more stops": (
        "exposure", "brighten", _matched("brighten", _stops, 0, 6, lambda v: float(v.mean()))),
    "fewer stops": (
        "exposure", "darken", _matched("darken", _stops, -6, 0, lambda v: float(v.mean()))),
    "sigmoid": (
        "contrast", "contrast change",
        _matched("contrast change", _sigmoid, -6, 6, lambda v: float(v.mean(2).std()))),
    "less chroma": (
        "color", "color saturation 1", _matched("color saturation 1", _chroma, 0, 1, _spread)),
}  # fmt: skip
"""By name: the cause, the kind whose opinions apply, and a maker that takes its strength."""


def degraded(pixels: Bytes, generator: str, cells: Cells, level: int, draw: Draw) -> Bytes:
    """A photo with a fault of this generator, at a level from 1 to 5."""
    _, kind, make = GENERATORS[generator]
    strength = cells.levels[kind][level - 1][0]
    if generator == "less chroma":  # stop at gray: opposite colors are another fault
        strength = max(0.0, strength)
    return make(pixels, strength, draw)


def _error(pixels: Bytes, others: Bytes) -> float:
    difference = pixels.astype(np.float32) - others
    return float(np.square(difference).mean())
