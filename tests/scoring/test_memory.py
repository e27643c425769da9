"""Memory of a whole run, with a JPEG of 200 megapixels beside an image of ten pixels."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

LIMIT = 1_000_000_000  # the large photo's pixels alone take 0.8 GB
SIDE = 14_143


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (5, 2), (200, 20, 90)).save(folder / "tiny.png")
    # Made by repetition, so that this takes no more memory than reading.
    tile = np.random.default_rng(0).integers(0, 256, (8, SIDE, 1), np.uint8)
    large = Image.new("RGB", (SIDE, SIDE))
    strip = Image.fromarray(np.repeat(tile, 3, axis=2))
    for top in range(0, SIDE, 8):
        large.paste(strip, (0, top))
    large.save(folder / "large.jpg", quality=30)
    large.close()
    return folder


def held(process):
    """Memory that the system cannot reclaim: all that is not file-backed."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:  # the process just ended
        return 0
    values = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(values.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem"))


def test_two_hundred_megapixels_in_a_gigabyte(photos, tmp_path):
    out = tmp_path / "scores.csv"
    command = [
        sys.executable, "-m", "qfm_iqm", "score", str(photos), "--out", str(out),
        "--max-memory", "1GB", "--readers", "2",
    ]  # fmt: skip
    process = psutil.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "2"})
    most = 0
    while True:
        try:
            code = process.wait(timeout=0.05)
            break
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            pass
        most = max(most, sum(map(held, [process, *process.children(recursive=True)])))
    assert code == 0
    with out.open() as file:
        rows = {row["path"].rsplit("/", 1)[1]: row for row in csv.DictReader(file)}
    assert (rows["large.jpg"]["width"], rows["large.jpg"]["height"]) == (str(SIDE), str(SIDE))
    assert rows["tiny.png"]["status"] == rows["large.jpg"]["status"] == "ok"
    assert SIDE * SIDE < most < LIMIT  # sampled during decoding
