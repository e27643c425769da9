"""Scores real photographs, clean and degraded, and shows how quality falls.

    make demo            (or: python examples/demo.py)

The photographs come inside scikit-image's wheel. Each is degraded by blur, JPEG compression and
noise, mild, medium and severe; all files are written to `demo-output/` and scored by
`qfm score`, like any other folder.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

import skimage
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from qfm_iqm import load_model, read_image
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import distort_tensor

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
KINDS = ("gaussian blur", "jpeg", "white noise")
SHOWN = (1, 3, 5)  # of the five of `qfm_iqm.image.distortions`: mild, medium, severe
OUT = Path("demo-output")


def main() -> None:
    """Writes the photos, scores them, and prints the table."""
    console = Console(highlight=False)
    if OUT.exists():
        shutil.rmtree(OUT)
    source = Path(skimage.__file__).parent / "data"
    for photo in PHOTOS:
        image = read_image(source / photo)
        save(image, OUT / Path(photo).stem / "clean.png")
        for kind in KINDS:
            for level in SHOWN:
                save(
                    distort_tensor(image, kind, level),
                    OUT / Path(photo).stem / f"{kind}-{level}.png",
                )

    scores_file = OUT / "scores.csv"
    command = [sys.executable, "-m", "qfm_iqm", "score", str(OUT), "--out", str(scores_file)]
    print(f"$ qfm score {OUT} --out {scores_file}", flush=True)
    subprocess.run(command, check=True, stderr=subprocess.STDOUT)

    with scores_file.open(newline="", encoding="utf-8") as file:
        scores = {Path(row["path"]).relative_to(OUT): row["score"] for row in csv.DictReader(file)}
    value = {(path.parent.name, path.stem): float(score) for path, score in scores.items()}
    shown = load_model().card.label.shown
    title = f"Quality, {shown.minimum:g} (worst) to {shown.maximum:g} (best)"
    table = Table(box=box.SIMPLE_HEAD, title=title, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("degraded by")
    table.add_column("strength", justify="right")
    for photo in PHOTOS:
        table.add_column(Path(photo).stem.removesuffix("_left"), justify="right")
    table.add_column("mean", justify="right", style="bold")
    rows = [("none", "", "clean")] + [
        (kind, f"{LEVELS[kind][level - 1]:g}", f"{kind}-{level}")
        for kind in KINDS
        for level in SHOWN
    ]
    for kind, strength, stem in rows:
        values = [value[Path(photo).stem, stem] for photo in PHOTOS]
        end = stem in {f"{kind}-{SHOWN[-1]}", "clean"}
        table.add_row(
            kind, strength, *(f"{v:.1f}" for v in values), f"{mean(values):.1f}", end_section=end
        )
    console.print(table)
    console.print("Strengths: blur sigma in pixels, JPEG quality, noise sigma (of 1).")
    console.print(f"All scores: {scores_file}")


def save(image: Tensor, path: Path) -> None:
    """Writes an RGB tensor (3, H, W) in [0, 1] as an 8-bit file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    main()
