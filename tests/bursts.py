"""Bursts of photos with times: different scenes, each photo framed slightly differently.

Also a library of moments on disk, made from them.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
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
    """Writes a JPEG taken this many seconds after noon; None leaves the time out."""
    exif = Image.Exif()
    if second is not None:
        time = f"{12 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {time}"
    Image.fromarray(pixels).save(path, quality=quality, exif=exif)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three moments of 3, 3 and 1 photos, a copy of one file, and a file that is not a photo.

    In the first, only `a1.jpg` is sharp; in the second, `b2.jpg` is sharp and
    the last one has no time. `z.jpg` shows what `a1.jpg` shows, an hour later.
    """
    folder = tmp_path_factory.mktemp("library")
    first, second = scene(1), scene(2)
    for number, blur in enumerate((2.5, 0.0, 1.5)):
        save(taken_of(first, number, blur), folder / f"a{number}.jpg", 10 + number)
    for number, (blur, time) in enumerate(((2.0, 100), (3.0, 102), (0.0, None))):
        save(taken_of(second, number, blur), folder / f"b{number}.jpg", time)
    save(scene(3), folder / "c.jpg", 104)
    save(taken_of(first, 1), folder / "z.jpg", 3700, quality=96)
    shutil.copy(folder / "a1.jpg", folder / "copy of a1.jpg")
    (folder / "broken.jpg").write_text("no photo")
    return folder
