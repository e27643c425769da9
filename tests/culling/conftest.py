"""A library of moments on disk."""

import shutil
from pathlib import Path

import pytest

from .bursts import save, scene, taken_of


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """Three moments of 3, 3 and 1 photos, a copy of one file, and a file that is no photo.

    Of the first, `a1.jpg` is sharp and the others are not; of the second, `b2.jpg` is sharp and
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
