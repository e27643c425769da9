"""Pairs of photos of one moment with a known preference, for fitting the ranking of `qfm cull`.

There are two kinds. BIQ2021 itself holds moments: the same scene, sharp and blurred, bright and
dark, each photo with its own opinion. And photos are degraded as KADID-10k's raters saw it, with
slightly different framing and exposure, so that no two copies have the same pixels.

A preference is clear if it is at least .1 on BIQ2021's scale from 0 to 1, twice the standard error
of such a difference; between copies, if it holds on 95 % of contents by the cells' means and
deviations.

Photos are measured exactly as `qfm cull` measures them.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.arrays import Bytes, Doubles
from qfm_iqm.culling.measures import measured
from qfm_iqm.culling.regions import Regions
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import covering_crops
from qfm_iqm.image.resize import read_resized
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.training.degradations import CLEAN, Cells

HELD_OUT = ("lens blur", "jpeg2000", "white noise in color components", "denoise")
CLEAR_MOS = 0.1
CLEAR_SIGMAS = 1.645  # 95 % of contents
CLEAN_STD = 0.13  # of opinions of unnoticed changes
LEVELS = (0.3, 0.25, 0.2, 0.15, 0.1)  # shares of the five levels: the mild ones matter most
_EDGE = 24  # pixels by which a copy's frame may move


@dataclass(frozen=True)
class Photos:
    """Measured photos of moments.

    Attributes:
        moment: moment of each photo (N,).
        opinion: opinion of each photo (N,).
        error: error of each opinion (N,); a clear difference exceeds it.
        inputs: score and measures (N, 1 + M), in the order of `ranking.INPUTS`.
        kind: degradation of each photo; empty for rated photos.
        seen: whether the network was trained on the photo.
    """

    moment: npt.NDArray[np.int64]
    opinion: Doubles
    error: Doubles
    inputs: Doubles
    kind: tuple[str, ...]
    seen: npt.NDArray[np.bool_]

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Indices of the preferred and of the other photo of each clear pair."""
        better, worse = [], []
        for moment in np.unique(self.moment):
            for i, j in combinations(np.flatnonzero(self.moment == moment).tolist(), 2):
                apart = self.opinion[i] - self.opinion[j]
                if abs(apart) >= np.hypot(self.error[i], self.error[j]):
                    better.append(i if apart > 0 else j)
                    worse.append(j if apart > 0 else i)
        return np.array(better, np.int64), np.array(worse, np.int64)


def measured_moment(photos: Sequence[Bytes], runtime: Runtime) -> Doubles:
    """Score and measures (P, 1 + M) of photos (3, H, W) of one moment."""
    points = [_points(photo, runtime) for photo in photos]
    regions = Regions(photos[int(np.argmax(points))])
    return np.array(
        [[score, *measured(regions.of(p))] for score, p in zip(points, photos, strict=True)]
    )


def _points(photo_CHW: Bytes, runtime: Runtime) -> float:
    preprocessing = runtime.card.preprocessing
    image = Image.fromarray(np.ascontiguousarray(photo_CHW.transpose(1, 2, 0)))
    crops = list(covering_crops(read_resized(image, preprocessing).pixels, preprocessing))
    return float(runtime.card.label.show(float(runtime.run(crops).mean())))


def rated_moments(
    files: Sequence[Path],
    opinions: Doubles,
    moments: Sequence[int],
    seen: Sequence[bool],
    runtime: Runtime,
) -> Photos:
    """Rated photos that share their moment with others."""
    numbers = np.array(moments)
    inputs: list[Doubles] = []
    kept: list[int] = []
    for moment in np.flatnonzero(np.bincount(numbers) > 1):
        members = np.flatnonzero(numbers == moment).tolist()
        inputs.append(measured_moment([read_image_uint8(files[i]) for i in members], runtime))
        kept += members
    error = np.full(len(kept), CLEAR_MOS / np.sqrt(2))
    place = np.array(kept)
    return Photos(
        numbers[place], opinions[place], error, np.concatenate(inputs), ("",) * len(kept),
        np.array(seen)[place],
    )  # fmt: skip


def degraded_moments(
    files: Sequence[Path],
    cells: Cells,
    deviations: dict[str, tuple[float, ...]],
    runtime: Runtime,
    *,
    copies: int,
    held_out: bool,
    seed: int = 0,
) -> Photos:
    """Photos with copies degraded at KADID-10k's levels.

    Args:
        files: paths of the photos.
        cells: opinions by kind and level.
        deviations: standard deviations of these opinions over contents.
        runtime: scores the photos.
        copies: number of copies per photo.
        held_out: half of the copies get the kinds of `HELD_OUT`; otherwise none does.
        seed: seed of the random draws.
    """
    draw = np.random.default_rng(seed)
    others = [kind for kind in cells.levels if kind not in HELD_OUT]
    moment, opinion, error, inputs, kinds = [], [], [], [], []
    for number, file in enumerate(files):
        photo_HWC = read_image_uint8(file).transpose(1, 2, 0)
        chosen = draw.choice(others, copies // 2 if held_out else copies, replace=False).tolist()
        chosen += draw.choice(HELD_OUT, copies - len(chosen), replace=False).tolist()
        photos = [_framed_anew(photo_HWC, draw)]
        said = [(CLEAN, CLEAN_STD)]
        for kind in chosen:
            level = int(draw.choice(len(LEVELS), p=LEVELS))
            strength, mean = cells.levels[kind][level]
            copy = distort(
                _framed_anew(photo_HWC, draw), kind, strength, int(draw.integers(1 << 30))
            )
            photos.append(copy)
            said.append((mean, deviations[kind][level]))
        inputs.append(
            measured_moment([np.ascontiguousarray(p.transpose(2, 0, 1)) for p in photos], runtime)
        )
        moment += [number] * len(photos)
        opinion += [mean for mean, _ in said]
        error += [CLEAR_SIGMAS * deviation for _, deviation in said]
        kinds += ["clean", *chosen]
    return Photos(
        np.array(moment), np.array(opinion), np.array(error), np.concatenate(inputs),
        tuple(kinds), np.zeros(len(kinds), bool),
    )  # fmt: skip


def _framed_anew(photo_HWC: Bytes, draw: np.random.Generator) -> Bytes:
    """A photo as if taken a moment later: shifted by some pixels, slightly re-exposed."""
    height, width = photo_HWC.shape[:2]
    top, left = draw.integers(0, 2 * _EDGE + 1, 2)
    part = photo_HWC[top : height - 2 * _EDGE + top, left : width - 2 * _EDGE + left]
    light = part.astype(np.float32) * np.float32(2 ** draw.normal(0, 0.06))
    return np.ascontiguousarray(np.rint(np.clip(light, 0, 255)).astype(np.uint8))


def deviations_of(table: Path, cells: Cells) -> dict[str, tuple[float, ...]]:
    """Deviations over contents of the opinions by kind and level; WebP and AVIF get JPEG's."""
    found: dict[str, dict[int, float]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["name"], {})[int(row["level"])] = float(row["dmos_std"])
    return {
        kind: tuple(level for _, level in sorted(found.get(kind, found["jpeg"]).items()))
        for kind in cells.levels
    }
