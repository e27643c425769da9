"""Cost of large images and large folders: `qfm gate --max-memory`, and `qfm cull` on a library.

    make bench     (or: python benchmarks/large.py [--measure gate cull] [--files 10000])

Writes benchmarks/results/large.csv; rows that are not measured are kept.

* `gate`: eight PNGs of 20,000 x 12,000 pixels, with a limit of 2 GB.
* `cull`: 10,000 JPEGs of 512 x 512 pixels, four of each moment, from the start of the command to
  its end; and again with `--resume` after one moment was added.

`peak_mb` is the peak of all processes together, with mapped code; shared memory counts once. `load`
is the machine's load average over the run: above `cores`, other programs were running.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from photos import PHOTOS, RESULTS, machine, peak_memory

OUT = RESULTS / "large.csv"
QFM = "import sys; from qfm_iqm.cli.main import main; sys.argv[0] = 'qfm'; main()"
COLUMNS = ("measure", "files", "limit", "seconds", "peak_mb", "load", "date")
BURST = 4  # photos per moment
PNGS, SIZE, LIMIT = 8, (20_000, 12_000), "2GB"


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--files", type=int, default=10_000, help="number of files for qfm cull")
    options = parser.parse_args()
    rows = {}
    if OUT.exists():
        with OUT.open(encoding="utf-8") as file:
            rows = {row["measure"]: row for row in csv.DictReader(file)}
    facts = machine()
    for name in options.measure:
        with tempfile.TemporaryDirectory() as folder:
            for row in MEASURES[name](Path(folder), options.files):
                rows[str(row["measure"])] = row | {"date": time.strftime("%Y-%m-%d")} | facts
                print(", ".join(f"{key}: {value}" for key, value in row.items()))
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *facts], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    print(f"Written to {OUT}")


def gate(folder: Path, _: int) -> list[dict[str, object]]:
    """Large PNGs within a memory limit."""
    first = folder / "0.png"
    with Image.open(Path(skimage.__file__).parent / "data" / PHOTOS[0]) as photo:
        photo.convert("RGB").resize(SIZE).save(first, compress_level=1)
    for number in range(1, PNGS):
        os.link(first, folder / f"{number}.png")
    command = ("gate", folder, "--min", "0", "--max-memory", LIMIT, "--max-megapixels", 250)
    return [measured("gate", PNGS, command, LIMIT)]


def cull(folder: Path, files: int) -> list[dict[str, object]]:
    """A library of moments, and again after one more."""
    photos, out = folder / "photos", folder / "cull.csv"
    photos.mkdir()
    write_moments(photos, range(files // BURST))
    command = ("cull", photos, "--out", out)
    first = measured("cull", files, command)
    write_moments(photos, range(files // BURST, files // BURST + 1))
    again = measured("cull --resume", files + BURST, (*command, "--resume"))
    return [first, again]


def write_moments(folder: Path, numbers: range) -> None:
    """Writes moments five minutes apart: bursts of a crop that moves by some pixels."""
    source = Path(skimage.__file__).parent / "data"
    photos = [Image.open(source / name).convert("RGB") for name in PHOTOS]
    for number in numbers:
        draw = np.random.default_rng(number)
        photo = photos[number % len(photos)]
        side = int(draw.integers(200, min(photo.size) - 16))
        left = int(draw.integers(0, photo.width - side - 8))
        top = int(draw.integers(0, photo.height - side - 8))
        for place in range(BURST):
            x, y = left + int(draw.integers(0, 8)), top + int(draw.integers(0, 8))
            cut = photo.crop((x, y, x + side, y + side)).resize((512, 512))
            exif = Image.Exif()
            taken = time.gmtime(1_700_000_000 + 300 * number + 2 * place)
            exif.get_ifd(0x8769)[0x9003] = time.strftime("%Y:%m:%d %H:%M:%S", taken)
            name = folder / f"{number:05}_{place}.jpg"
            cut.save(name, quality=int(draw.integers(70, 96)), exif=exif)


def measured(
    name: str, files: int, command: tuple[object, ...], limit: str = ""
) -> dict[str, object]:
    """The row of one command."""
    began = time.perf_counter()
    peak, _ = peak_memory(QFM, *command)
    took = time.perf_counter() - began
    load = os.getloadavg()[0 if took < 300 else 1]
    return {
        "measure": name,
        "files": files,
        "limit": limit,
        "seconds": f"{took:.1f}",
        "peak_mb": f"{peak:.0f}",
        "load": f"{load:.1f}",
    }


MEASURES: dict[str, Callable[[Path, int], list[dict[str, object]]]] = {"gate": gate, "cull": cull}

if __name__ == "__main__":
    main()
