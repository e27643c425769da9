"""A small rated set of real files."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCENES, LEVELS = 10, 4


@pytest.fixture(scope="session")
def rated_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty JPEG files of 96 x 96 pixels and `labelled.csv` (name, mos, subset, content).

    Ten scenes of smooth color with noise at four strengths; the label falls as noise grows,
    and depends slightly on the scene.
    """
    root = tmp_path_factory.mktemp("rated")
    draw = np.random.default_rng(5)
    rows = []
    for scene in range(SCENES):
        cells = draw.integers(60, 196, (3, 3, 3), dtype=np.uint8)
        field = np.asarray(Image.fromarray(cells).resize((96, 96), Image.Resampling.BICUBIC))
        for level in range(LEVELS):
            name = f"scene{scene}_level{level}.jpg"
            noisy = field + draw.normal(0, 1 + 15 * level, field.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name, quality=92)
            mos = 80 - 20 * level + draw.uniform(-4, 4)
            rows.append((name, f"{mos:.3f}", "even" if scene % 2 == 0 else "odd", f"scene{scene}"))
    write_csv(root / "labelled.csv", ("name", "mos", "subset", "content"), rows)
    return root


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
