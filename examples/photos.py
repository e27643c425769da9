"""Writes the folder of photos that the tutorial and the guides work on.

    python examples/photos.py                 (in a folder of your own; needs scikit-image)

`photos/` holds photos of scikit-image as they may come from a camera, a phone and a website: good
ones, a blurred, a noisy and a strongly compressed one, three shots of one moment, and a truncated
file. `rated/` holds 50 photos, clean and degraded, and `rated/ratings.csv` their opinions, which
are made up and stand for yours.
"""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageFilter

NAMES = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "engine": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
DEGRADATIONS = ((1, 30, 10), (2, 15, 20), (4, 5, 40))
"""Blur in pixels, JPEG quality and deviation of noise, mild to severe."""
TAKEN = datetime(2026, 5, 2, 10)
EXIF, DATE_TIME_ORIGINAL = 0x8769, 0x9003


def main() -> None:
    """Writes both folders into the current one."""
    source = Path(skimage.__file__).parent / "data"
    photos = {name: Image.open(source / file).convert("RGB") for name, file in NAMES.items()}
    write_photos(photos, Path("photos"))
    write_rated(photos, Path("rated"))


def write_photos(photos: dict[str, Image.Image], folder: Path) -> None:
    """Good and bad photos, taken an hour apart, and a moment of three shots."""
    for hour, (name, photo) in enumerate(photos.items()):
        save(photo, folder / f"{name}.jpg", TAKEN + timedelta(hours=hour))
    later = TAKEN + timedelta(days=1)
    save(blurred(photos["cat"], 3), folder / "phone" / "cat_blurred.jpg", later)
    save(noisy(photos["rocket"], 30), folder / "phone" / "rocket_night.jpg", later, 98)
    save(photos["coffee"], folder / "web" / "coffee_upload.jpg", None, 6)
    whole = (folder / "engine.jpg").read_bytes()
    (folder / "web" / "engine_cut_off.jpg").write_bytes(whole[: len(whole) // 2])
    shots = (photos["astronaut"].crop((left, 0, left + 480, 480)) for left in (0, 6, 14))
    changes = (lambda shot: blurred(shot, 2), lambda shot: shot, lambda shot: noisy(shot, 12))
    for number, (shot, change) in enumerate(zip(shots, changes, strict=True), 1):
        when = TAKEN + timedelta(days=2, seconds=number)
        save(change(shot), folder / "burst" / f"shot_{number}.jpg", when)


def write_rated(photos: dict[str, Image.Image], folder: Path) -> None:
    """Each photo clean and in nine degraded copies, with an opinion from 1 to 5 for each."""
    draw = np.random.default_rng(0)
    rows = []
    for name, photo in photos.items():
        small = photo.crop((0, 0, 320, 300))
        copies = {"clean": (0, small)}
        for level, (sigma, quality, deviation) in enumerate(DEGRADATIONS, 1):
            copies[f"blur{level}"] = level, blurred(small, sigma)
            copies[f"jpeg{level}"] = level, compressed(small, quality)
            copies[f"noise{level}"] = level, noisy(small, deviation)
        for kind, (level, copy) in copies.items():
            save(copy, folder / f"{name}_{kind}.png")
            opinion = float(np.clip(4.6 - 1.1 * level + draw.normal(0, 0.2), 1, 5))
            rows.append((f"{name}_{kind}.png", f"{opinion:.2f}", name))
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("name", "mos", "content"), *rows])


def blurred(photo: Image.Image, sigma: float) -> Image.Image:
    """The photo with a Gaussian blur of `sigma` pixels."""
    return photo.filter(ImageFilter.GaussianBlur(sigma))


def noisy(photo: Image.Image, deviation: float) -> Image.Image:
    """The photo with Gaussian noise of this deviation, out of 255."""
    noise = np.random.default_rng(0).normal(0, deviation, (photo.height, photo.width, 3))
    return Image.fromarray((np.asarray(photo) + noise).clip(0, 255).astype(np.uint8))


def compressed(photo: Image.Image, quality: int) -> Image.Image:
    """The photo as a JPEG of this quality."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def save(photo: Image.Image, path: Path, taken: datetime | None = None, quality: int = 92) -> None:
    """Writes a photo, with the capture time if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken is not None:
        exif.get_ifd(EXIF)[DATE_TIME_ORIGINAL] = taken.strftime("%Y:%m:%d %H:%M:%S")
    options = {"quality": quality, "exif": exif} if path.suffix == ".jpg" else {}
    photo.save(path, **options)


if __name__ == "__main__":
    main()
