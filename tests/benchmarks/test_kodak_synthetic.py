import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import piq
import pytest
import torch
from PIL import Image

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.image.distortions import LEVELS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kodak_synthetic.py"


def pixels(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    photos = tmp_path_factory.mktemp("pristine")
    draw = np.random.default_rng(3)
    for name in ("a", "b"):
        cells = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        field = Image.fromarray(cells).resize((96, 72), Image.Resampling.BICUBIC)
        field.save(photos / f"{name}.png")
    out = tmp_path_factory.mktemp("synthetic")
    command = [sys.executable, SCRIPT, "--photos", photos, "--out", out, "--metric", "haarpsi"]
    subprocess.run(command, check=True, capture_output=True)
    return photos, out


def test_every_photo_comes_in_every_kind_and_level_as_its_content(synthetic):
    _, out = synthetic
    table = read_table(out / "labels.csv")
    found = set(zip(table.contents, table.column("distortion"), table.column("level"), strict=True))
    assert found == {(c, k, str(n)) for c in "ab" for k in LEVELS for n in range(1, 6)}
    assert len(table) == 60
    assert all(path.is_file() for path in table.paths(out))


def test_a_label_is_the_metric_of_the_very_file_against_the_photo(synthetic):
    photos, out = synthetic
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::7]:
        image, pristine = pixels(out / row["name"]), pixels(photos / f"{row['content']}.png")
        expected = 100 * piq.haarpsi(image, pristine).item()
        assert float(row["mos"]) == pytest.approx(expected, abs=1e-3)
    labels = [float(row["mos"]) for row in rows]
    assert 0 <= min(labels) < 40 < 90 < max(labels) <= 100
