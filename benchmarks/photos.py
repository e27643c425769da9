"""Shared by benchmarks: photos, cut from those inside scikit-image's wheel, and timing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image

from qfm_iqm.scoring.runtimes.onnx_runtime import has_vnni

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
RESULTS = Path(__file__).parent / "results"


def write_photos(
    folder: Path, count: int, *, size: tuple[int, int] = (512, 512), quality: int = 90
) -> list[Path]:
    """Writes JPEGs of `size` (width, height), each a different crop of a photo."""
    draw = np.random.default_rng(0)
    source = Path(skimage.__file__).parent / "data"
    photos = [Image.open(source / name).convert("RGB") for name in PHOTOS]
    paths = []
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(draw.integers(256, min(photo.size) + 1))
        left = int(draw.integers(0, photo.width - side + 1))
        top = int(draw.integers(0, photo.height - side + 1))
        cut = photo.crop((left, top, left + side, top + side)).resize(size)
        paths.append(folder / f"{number:04}.jpg")
        cut.save(paths[-1], quality=quality)
    return paths


def matrix_rate(size: int = 2048, repeats: int = 5) -> float:
    """GFLOP/s of a plain fp32 matrix product in torch."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    a @ b
    return repeats * 2 * size**3 / seconds(lambda: a @ b, repeats) / 1e9


def seconds(work: object, repeats: int) -> float:
    """Seconds that `repeats` calls of `work` take."""
    assert callable(work)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return time.perf_counter() - began


def machine() -> dict[str, object]:
    """Facts that figures depend on, apart from this code."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "vnni": has_vnni(),
        "torch": torch.__version__,
    }


def peak_memory(code: str, *arguments: object) -> tuple[float, str]:
    """Peak megabytes of a Python process and its children, and its output.

    Shared memory counts once (PSS). Sampling slows the processes down, so it takes at most a
    twentieth of a core.
    """
    import psutil

    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    most = 0.0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        total, began = 0, time.perf_counter()
        try:
            for one in [watched, *watched.children(recursive=True)]:
                total += one.memory_full_info().pss
        except psutil.Error:
            pass  # a process just ended
        most = max(most, total / 1e6)
        time.sleep(max(0.02, 20 * (time.perf_counter() - began)))
    assert process.stdout is not None
    printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the measured process ended with {process.returncode}")
    return most, printed
