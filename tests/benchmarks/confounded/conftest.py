"""Small photos of two kinds of content, a recipe for them, and random backbone weights."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from confounded.config import read_confounding

RECIPE = """
root = "{root}"
labels = "labelled.csv"
cells = "{root}/cells.csv"
backbone = "test_vit"
weights = "random"
pool = 12
photos = 12
validation = 4
test = 4
kinds = 2
side = 40
crop = 32
grid = 1
batch_size = 4
verdict = "rho90"
[human]
upper = "good"
lower = "bad"
[tuning]
rho = 0.9
seeds = [100]
[[trials]]
alpha = 0.5
lr = 1e-3
epochs = 2
top_k = 1
tau = 0.5
[settings.rho90]
rho = 0.9
further = true
seeds = [0, 1]
[settings.human]
data = "human"
variants = ["none", "qfm"]
seeds = [0]
[settings.adapters]
rho = 0.9
adapters = 2
epochs = 1
variants = ["none", "qfm"]
seeds = [0]
"""

CELLS = {  # by type: strengths, opinions
    "gaussian blur": ((0.1, 0.5, 1, 2, 5), (4.6, 4.4, 2.9, 1.9, 1.3)),
    "jpeg": ((43, 36, 24, 7, 4), (4.3, 4.2, 3.9, 1.9, 1.4)),
    "white noise": ((0.001, 0.005, 0.01, 0.05, 0.1), (3.9, 3.4, 3.0, 2.4, 2.3)),
    "darken": ((0.05, 0.1, 0.2, 0.4, 0.8), (4.6, 4.5, 4.2, 3.5, 2.2)),
    "mean shift": ((0.15, 0.08, 0, -0.08, -0.15), (4.2, 4.5, 4.6, 4.4, 3.9)),  # no severe cell
}


@pytest.fixture(scope="session")
def set_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos of 40 x 44 pixels, red stripes or blue blobs, and the opinions of CELLS."""
    root = tmp_path_factory.mktemp("confounded")
    draw = np.random.default_rng(3)
    rows = []
    for number in range(40):
        noise = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        field = np.asarray(Image.fromarray(noise).resize((44, 40), Image.Resampling.BICUBIC)) // 2
        field = field + np.array((120, 0, 0) if number % 2 else (0, 0, 120), np.uint8)
        if number % 2:
            field[::4] //= 2
        Image.fromarray(field.astype(np.uint8)).save(root / f"photo{number}.png")
        subset = "good" if number % 4 < 2 else "bad"
        rows.append((f"photo{number}.png", 1 + number / 10, subset, f"scene{number}"))
    write(root / "labelled.csv", ("name", "mos", "subset", "content"), rows)
    cells = [
        (kind, level, strength, opinion)
        for kind, (strengths, opinions) in CELLS.items()
        for level, (strength, opinion) in enumerate(zip(strengths, opinions, strict=True), 1)
    ]
    write(root / "cells.csv", ("name", "level", "parameter", "dmos_mean"), cells)
    return root


def write(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="session")
def recipe_file(set_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(RECIPE.format(root=set_root))
    return file


@pytest.fixture(scope="session")
def recipe(recipe_file):
    return read_confounding(recipe_file, [])
