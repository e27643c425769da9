"""Tests whether a smaller copy or a frame raises a photo's score; neither improves a photo.

    python benchmarks/size_and_frame.py --kodak KODAK [--model default vit-tiny]

The photos are the demo's, from scikit-image's wheel, and the Kodak set:

* sizes: score of a copy at half, a quarter and an eighth of the size, minus the photo's score;
  reduced by averaging areas, and by Lanczos, as people make thumbnails;
* frames: what a plain frame around the photo adds to its score: white, black or gray, 3, 6 or 12 %
  of the shorter side wide. Weak photos gain most, so frames are also tried around photos degraded
  at level 4 by blur, JPEG or noise.

Writes benchmarks/results/size_and_frame.csv: for each model, set and change, the mean, largest and
smallest difference, and the share of photos above the bound (2 points for a size, 3 for a frame);
and size_and_frame_photos.csv: score and differences of each photo. Rows of other models are kept.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image, ImageOps
from torch import Tensor

from photos import PHOTOS, RESULTS
from qfm_iqm import Scorer, load_runtime, read_image
from qfm_iqm.image.preprocess_torch import distort_tensor

SIZES = {"half": 2, "quarter": 4, "eighth": 8}
FILTERS = {"area": Image.Resampling.BOX, "Lanczos": Image.Resampling.LANCZOS}
COLORS = {"white": "#ffffff", "black": "#000000", "gray": "#808080"}
WIDTHS = (3, 6, 12)  # % of the shorter side
WEAK = {"": None, "blur": ("gaussian blur", 4), "jpeg": ("jpeg", 4), "noise": ("white noise", 4)}
BOUND = {"size": 2.0, "frame": 3.0}  # points by which a copy may exceed its photo


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=RESULTS / "size_and_frame.csv")
    arguments = parser.parse_args()
    source = Path(skimage.__file__).parent / "data"
    photos = [("scikit-image", source / name) for name in PHOTOS]
    if arguments.kodak:
        photos += [("Kodak", path) for path in sorted(arguments.kodak.glob("*.png"))]
    beside = arguments.out.with_stem(f"{arguments.out.stem}_photos")
    measured = earlier(beside)
    for model in arguments.model:
        scorer = Scorer(load_runtime(model))
        name = scorer.runtime.card.name
        measured = [row for row in measured if row["model"] != name]
        for place, (photos_of, path) in enumerate(photos, start=1):
            for degraded, differences in measure(scorer, path):
                about: dict[str, object] = {"model": name, "photos": photos_of, "photo": path.stem}
                measured.append(about | {"degraded": degraded} | differences)
            print(f"\r{name}: {place} of {len(photos)} photos", end="", flush=True)
        print()
        write(beside, measured)
    figures = list(summarize(measured))
    write(arguments.out, figures)
    for row in figures:
        print(*row.values(), sep=", ")


def earlier(path: Path) -> list[dict[str, object]]:
    """Earlier rows by photo; only undegraded photos have smaller copies."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v or k == "degraded"} for row in rows]


def measure(scorer: Scorer, path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Score differences of a photo's copies from the photo, undegraded and degraded.

    Yields:
        The degradation, empty for none, and the photo's score with each copy's difference from it;
        smaller copies only of the undegraded photo.
    """
    photo = read_image(path)
    for degraded, how in WEAK.items():
        image = as_image(photo if how is None else distort_tensor(photo, *how))
        copies = frames(image) if degraded else smaller(image) | frames(image)
        pixels = [as_tensor(copy) for copy in (image, *copies.values())]
        original, *scores = scorer.score_batch(pixels).tolist()
        differences = zip(copies, (score - original for score in scores), strict=True)
        yield (
            degraded,
            {"score": round(original, 3)} | {name: round(by, 3) for name, by in differences},
        )


def smaller(image: Image.Image) -> dict[str, Image.Image]:
    """Copies at a half, a quarter and an eighth of the size, by each filter."""
    return {
        f"size {size}, {name}": image.resize(
            (max(1, round(image.width / divisor)), max(1, round(image.height / divisor))), kind
        )
        for name, kind in FILTERS.items()
        for size, divisor in SIZES.items()
    }


def frames(image: Image.Image) -> dict[str, Image.Image]:
    """Copies with a plain frame around them."""
    return {
        f"frame {color}, {width} %": ImageOps.expand(
            image, round(width / 100 * min(image.size)), fill
        )
        for color, fill in COLORS.items()
        for width in WIDTHS
    }


def summarize(measured: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Mean, extremes and share above the bound, by model, degradation and change."""
    changes = [name for name in measured[0] if name.startswith(tuple(BOUND))]
    for model in dict.fromkeys(row["model"] for row in measured):
        for degraded in WEAK:
            rows = [r for r in measured if (r["model"], r["degraded"]) == (model, degraded)]
            for change in changes:
                if change not in rows[0]:
                    continue
                differences = np.array([row[change] for row in rows], dtype=float)
                bound = BOUND[change.split()[0]]
                about: dict[str, object] = {
                    "model": model,
                    "photos": degraded or "clean",
                    "n": len(rows),
                }
                for figure, value in (
                    ("mean difference", differences.mean()),
                    ("largest difference", differences.max()),
                    ("smallest difference", differences.min()),
                    (f"share above by more than {bound:g}", (differences > bound).mean()),
                ):
                    value = round(float(value), 3)
                    yield about | {"change": change, "figure": figure, "value": value}


def as_image(pixels: Tensor) -> Image.Image:
    """An RGB tensor (3, H, W) in [0, 1] as an 8-bit image, as it would be saved."""
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def as_tensor(image: Image.Image) -> Tensor:
    """Reverses `as_image`."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Writes rows as CSV; the first has all columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
