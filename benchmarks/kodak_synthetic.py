"""A synthetic rated set: pristine photos, degraded by known kinds and levels.

    python benchmarks/kodak_synthetic.py --photos KODAK --out cache/kodak_synthetic

The 24 Kodak photos (768 x 512), each under the six kinds and five levels of `image.distortions`:
720 images of 24 contents. The label replaces people's opinion: a full-reference metric of piq, by
default HaarPSI (Reisenhofer et al., 2018) of the degraded photo against the pristine one, times
100. It is not a MOS: a network trained on it learns to predict a metric without its reference.

Writes OUT/images/NAME.KIND.LEVEL.png and OUT/labels.csv (name, mos, content, distortion, level).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import piq
import torch
from PIL import Image
from torch import Tensor

from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import distort_tensor

# From 0 (nothing is left) to 100 (the photo itself). MDSI is a distance, 0 for equal photos, and
# seldom passes 0.5 (Ziaei Nafchi et al., 2016).
LABELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "haarpsi": lambda image, pristine: 100 * piq.haarpsi(image, pristine),
    "mdsi": lambda image, pristine: 100 * (1 - 2 * piq.mdsi(image, pristine)).clamp(min=0),
    "vsi": lambda image, pristine: 100 * piq.vsi(image, pristine),
}


def write_set(photos: list[Path], out: Path, metric: str) -> Path:
    """Writes the degraded images and their table, and returns the table's path.

    Args:
        photos: pristine photos; a file's stem names the content.
        out: folder, created if missing.
        metric: a key of `LABELS`.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, photo in enumerate(photos):
        pristine_CHW = read_image(photo)
        for kind in LEVELS:
            for level in range(1, 6):
                degraded_CHW = distort_tensor(pristine_CHW, kind, level, seed=number)
                pixels_CHW = degraded_CHW.mul(255).round().to(torch.uint8)
                name = f"images/{photo.stem}.{kind}.{level}.png"
                Image.fromarray(np.ascontiguousarray(pixels_CHW.permute(1, 2, 0))).save(out / name)
                # Rate the pixels of the file, after rounding.
                label = LABELS[metric](pixels_CHW[None] / 255, pristine_CHW[None]).item()
                rows.append((name, f"{label:.4f}", photo.stem, kind, level))
        print(f"{photo.stem}: {number + 1} of {len(photos)}", flush=True)
    table = out / "labels.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "mos", "content", "distortion", "level"))
        writer.writerows(rows)
    return table


def main() -> None:
    """Reads the arguments and writes the set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of pristine photos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--metric", choices=LABELS, default="haarpsi")
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.png"))
    if not photos:
        parser.error(f"there is no PNG in {arguments.photos}")
    print(write_set(photos, arguments.out, arguments.metric))


if __name__ == "__main__":
    main()
