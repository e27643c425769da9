"""Draws the documentation's figures of photos and speeds; writes docs/images/.

    make figures     (or: python docs/figures.py; needs the extras demo, figures and train)

The photos come inside scikit-image's wheel. Each figure is drawn for light and for dark pages.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
from matplotlib.figure import Figure
from PIL import Image, ImageEnhance

from qfm_iqm import Scorer, load_model, load_runtime
from qfm_iqm.report.drawing import BLUE, GRAY, save
from qfm_iqm.scoring.row import ScoreRow

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks")]
from confounded.config import read_confounding  # noqa: E402
from confounded.figures import draw_gains  # noqa: E402
from confounded.summary import gains_over_random, summarize  # noqa: E402
from photos import NAMES, blurred, compressed, noisy  # noqa: E402

OUT = ROOT / "docs" / "images"
STEPS = range(20, 90, 10)
SIDE = 300  # pixels of a photo in a figure


class Candidate(NamedTuple):
    """A candidate photo for the figure of the scale."""

    photo: str
    what: str
    image: Image.Image
    score: float


def main() -> None:
    """Draws all figures, light and dark."""
    photos = {
        name: Image.open(Path(skimage.__file__).parent / "data" / file).convert("RGB")
        for name, file in NAMES.items()
    }
    chosen = scale(photos)
    maps = quality_maps(photos)
    found = causes(photos)
    recipe = read_confounding(ROOT / "recipes" / "confounded.toml", [])
    runs = summarize(recipe, ROOT / "benchmarks" / "results" / "confounded_runs.csv")
    gains = gains_over_random(recipe, runs)
    for dark in (False, True):
        end = "dark" if dark else "light"
        save(lambda: draw_scale(chosen), OUT / f"scale_{end}.png", title="Scores", dark=dark)
        save(lambda: draw_maps(maps), OUT / f"maps_{end}.png", title="Quality maps", dark=dark)
        save(lambda: draw_causes(found), OUT / f"causes_{end}.png", title="Causes", dark=dark)
        draw_gains(gains, OUT / f"confounding_{end}.svg", dark=dark)
        save(draw_speed, OUT / f"speed_{end}.svg", title="Images a second", dark=dark)


def scale(photos: dict[str, Image.Image]) -> list[Candidate]:
    """For each step of the scale, the photo with the nearest score; scenes alternate."""
    made = []
    for name, photo in photos.items():
        square = middle(photo)
        made.append((name, "clean", square))
        made += [
            (name, f"JPEG quality {q}", compressed(square, q)) for q in (4, 8, 12, 18, 30, 50, 70)
        ]
        made += [(name, f"blur {s:g} px", blurred(square, s)) for s in (0.6, 0.9, 1.3, 2, 3, 5)]
        made += [(name, f"noise sigma {d}", noisy(square, d)) for d in (4, 8, 14, 22, 35, 60)]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, (_, _, image) in enumerate(made):
            paths.append(Path(folder, f"{number:03d}.png"))
            image.save(paths[-1])
        rows = list(Scorer(load_runtime()).score_paths(paths))
    scored = [
        Candidate(*one, row.score)
        for one, row in zip(made, rows, strict=True)
        if row.score is not None
    ]
    chosen: list[Candidate] = []
    for step in STEPS:
        before = chosen[-1:]
        fitting = [
            one
            for one in scored
            if all(
                one.photo != b.photo and one.what.split()[0] != b.what.split()[0] for b in before
            )
            or one.what == "clean"
        ]
        chosen.append(min(fitting, key=lambda one: abs(one.score - step)))
    return chosen


def quality_maps(photos: dict[str, Image.Image]) -> list[tuple[str, Image.Image, object]]:
    """Photos with one degraded half, and their maps."""
    model, found = load_model(), []
    for name, what, change in (
        ("astronaut", "right half blurred", lambda part: blurred(part, 3)),
        ("coffee", "right half as JPEG of quality 5", lambda part: compressed(part, 5)),
        ("rocket", "right half with noise", lambda part: noisy(part, 30)),
    ):
        square = middle(photos[name])
        half = (square.width // 2, 0, square.width, square.height)
        square.paste(change(square.crop(half)), half[:2])
        found.append((what, square, model.explain(np.asarray(square)).values))
    return found


def causes(photos: dict[str, Image.Image]) -> list[tuple[Image.Image, ScoreRow]]:
    """Photos with one fault each, and their score rows."""
    made = [
        blurred(middle(photos["astronaut"]), 3),
        noisy(middle(photos["cat"]), 35),
        compressed(middle(photos["engine"]), 8),
        ImageEnhance.Brightness(middle(photos["coffee"])).enhance(0.3),
        ImageEnhance.Contrast(middle(photos["rocket"])).enhance(0.3),
        ImageEnhance.Color(middle(photos["astronaut"])).enhance(0.15),
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.png") for number in range(len(made))]
        for image, path in zip(made, paths, strict=True):
            image.save(path)
        rows = list(Scorer(load_runtime(), causes=True).score_paths(paths))
    return list(zip(made, rows, strict=True))


def draw_causes(found: list[tuple[Image.Image, ScoreRow]]) -> Figure:
    """Each photo with its score and its main cause."""
    figure = Figure(figsize=(8.75, 1.85))
    for axes, (image, row) in zip(figure.subplots(1, len(found)), found, strict=True):
        axes.imshow(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        axes.set_axis_off()
        points = getattr(row, row.cause, None) if row.cause else None
        what = "none" if points is None else f"{row.cause} {points:.0f}"
        axes.set_title(what, fontsize=9, fontweight="bold", pad=5)
        axes.text(
            0.5, -0.05, f"score {row.score:.0f}", transform=axes.transAxes,
            ha="center", va="top", fontsize=8,
        )  # fmt: skip
    figure.subplots_adjust(left=0.005, right=0.995, top=0.86, bottom=0.1, wspace=0.06)
    return figure


def draw_scale(chosen: list[Candidate]) -> Figure:
    """The photos in a row, by rising score."""
    figure = Figure(figsize=(1.25 * len(chosen), 1.75))
    for axes, one in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        axes.imshow(one.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        axes.set_axis_off()
        axes.set_title(f"{one.score:.0f}", fontsize=14, fontweight="bold", pad=5)
        axes.text(
            0.5, -0.05, one.what, transform=axes.transAxes, ha="center", va="top", fontsize=7.5
        )
    figure.subplots_adjust(left=0.005, right=0.995, top=0.84, bottom=0.1, wspace=0.06)
    return figure


def draw_maps(maps: list[tuple[str, Image.Image, object]]) -> Figure:
    """Each photo beside its map."""
    figure = Figure(figsize=(8.75, 1.72))
    every = figure.subplots(1, 2 * len(maps))
    for (what, photo, values), left, right in zip(maps, every[::2], every[1::2], strict=True):
        left.imshow(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        left.set_title(what, loc="left", fontsize=8)
        right.imshow(values, cmap="cividis", interpolation="nearest", aspect="auto")
        for axes in (left, right):
            axes.set_axis_off()
            axes.set_box_aspect(1)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.88, bottom=0.02, wspace=0.06)
    return figure


def draw_speed() -> Figure:
    """Images per second of the default model and of pyiqa's networks, each by its faster way."""
    with (ROOT / "benchmarks" / "results" / "toolbox.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best: dict[str, float] = {}
    for row in rows:
        if row["size"] == "512x512" and row["model"] != "vit_s":
            best[row["model"]] = max(best.get(row["model"], 0.0), float(row["images_per_second"]))
    names = sorted(best, key=lambda name: best[name])
    figure = Figure(figsize=(7.2, 0.42 * len(names) + 0.6))
    axes = figure.subplots()
    colors = [BLUE if name.startswith("default") else GRAY for name in names]
    shown = ["default, int8" if name == "default_int8" else name for name in names]
    axes.barh(shown, [best[name] for name in names], color=colors, height=0.6)
    for place, name in enumerate(names):
        axes.text(best[name] * 1.08, place, f"{best[name]:.3g}", va="center")
    axes.set_xscale("log")
    axes.set_xlim(right=max(best.values()) * 2)
    axes.set_xlabel("512 x 512 JPEGs a second, two cores (logarithmic)")
    axes.tick_params(axis="y", length=0)
    figure.subplots_adjust(left=0.16, right=0.97, top=0.97, bottom=0.5 / figure.get_figheight())
    return figure


def middle(photo: Image.Image) -> Image.Image:
    """The central square, at most 480 pixels a side."""
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.crop((left, top, left + side, top + side))
    return square.resize((480, 480), Image.Resampling.LANCZOS) if side > 480 else square


if __name__ == "__main__":
    main()
