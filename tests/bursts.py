"""Bursts of photos with times: scenes that differ, framed a little anew in each photo."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom


def scene(seed: int, side: int = 320) -> np.ndarray:
    """A picture (side, side, 3) of shapes and texture, uint8."""
    draw = np.random.default_rng(seed)
    smooth = zoom(draw.uniform(0, 255, (4, 4, 3)), (side / 4, side / 4, 1), order=1)
    patches = zoom(draw.uniform(-80, 80, (5, 5, 3)), (side / 5, side / 5, 1), order=0)
    fine = gaussian_filter(draw.normal(0, 40, (side, side, 1)), (0.8, 0.8, 0))
    return np.clip(0.7 * smooth + patches + fine + 40, 0, 255).astype(np.uint8)


def taken_of(picture: np.ndarray, shift: int = 0, blur: float = 0.0, light: float = 1.0):
    """One photo of a scene: moved, out of focus, darker or lighter."""
    part = picture[10 + shift : -20 + shift, 10 - shift : -20 - shift].astype(np.float32) * light
    return np.clip(gaussian_filter(part, (blur, blur, 0)), 0, 255).astype(np.uint8)


def save(pixels: np.ndarray, path: Path, second: int | None, quality: int = 95) -> None:
    """Writes a JPEG that was taken so many seconds after noon; None leaves the time out."""
    exif = Image.Exif()
    if second is not None:
        time = f"{12 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {time}"
    Image.fromarray(pixels).save(path, quality=quality, exif=exif)
