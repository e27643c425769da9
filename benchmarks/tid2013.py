"""Compares scores of degraded photos with the opinions of TID2013's raters.

    python benchmarks/tid2013.py --tid2013 DIR --kodak KODAK

DIR holds TID2013's `mos_with_names.txt`. Its first 24 references are Kodak photos, cut to 512 x 384
pixels. We degrade these photos by each of its kinds that we can make, at PSNRs of 33, 30, 27, 24
and 21 dB for its five levels: we know of no table of the exact ones. Its images and opinions were
never used for training or selection. Training used KADID-10k's opinions of some of these kinds, but
not of spatially correlated or high frequency noise.

The figures are SRCC between scores and opinions: over all degraded photos, within each kind, and
within each photo (the mean over photos, where content cannot matter). `psnr` shows what the levels
alone give. The raters did not see our copies, so the figures are not results on TID2013. Writes
benchmarks/results/tid2013.csv.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from qfm_iqm import Scorer, load_runtime
from qfm_iqm.arrays import Bytes
from qfm_iqm.datasets.tid2013 import KINDS, TID2013
from qfm_iqm.image.decode import in_eight_bits, read_image
from qfm_iqm.image.distortions import distort

RESULTS = Path(__file__).parent / "results" / "tid2013.csv"
PSNR = (33.0, 30.0, 27.0, 24.0, 21.0)  # of levels 1 to 5, in dB
SIZE = (384, 512)  # of TID2013's images
STEPS = 24  # of bisection over strengths

Degrade = Callable[[Bytes, float, int], Bytes]


class Kind(NamedTuple):
    """How to make a kind of TID2013.

    Attributes:
        degrade: (pixels, strength, seed) to degraded pixels.
        mildest: strength of the highest PSNR.
        strongest: strength of the lowest PSNR.
        whole: whether strengths are whole numbers.
    """

    degrade: Degrade
    mildest: float
    strongest: float
    whole: bool = False


def of_ours(name: str) -> Degrade:
    """A kind of `qfm_iqm.image.distortions`."""
    return lambda pixels, strength, seed: distort(pixels, name, strength, seed)


def noise_of(correlated: bool) -> Degrade:
    """Gaussian noise with a deviation in [0, 1]: its average over 3 x 3 pixels, or the rest."""

    def degrade(pixels: Bytes, deviation: float, seed: int) -> Bytes:
        noise = np.random.default_rng(seed).normal(0, 255, pixels.shape)
        smooth = cv2.blur(noise, (3, 3))
        added = deviation * (smooth if correlated else noise - smooth)
        return np.clip(np.rint(pixels + added), 0, 255).astype(np.uint8)

    return degrade


MADE = {
    "additive Gaussian noise": Kind(of_ours("white noise"), 1e-6, 0.5),
    "additive noise in color": Kind(of_ours("white noise in color components"), 1e-6, 0.5),
    "spatially correlated noise": Kind(noise_of(correlated=True), 1e-3, 2),
    "high frequency noise": Kind(noise_of(correlated=False), 1e-3, 2),
    "impulse noise": Kind(of_ours("impulse noise"), 1e-5, 0.5),
    "quantization noise": Kind(of_ours("quantization"), 128, 2, whole=True),
    "Gaussian blur": Kind(of_ours("gaussian blur"), 0.1, 40),
    "JPEG compression": Kind(of_ours("jpeg"), 100, 1, whole=True),
    "JPEG2000 compression": Kind(of_ours("jpeg2000"), 1, 2000),
    "multiplicative Gaussian noise": Kind(of_ours("multiplicative noise"), 1e-6, 2),
    "color quantization with dither": Kind(of_ours("color quantization"), 256, 2, whole=True),
}
"""By TID2013's names, without kinds that we cannot make, and without those (mean shift, contrast,
saturation, denoising) that a PSNR does not determine."""


def main() -> None:
    """Measures the given models, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tid2013", type=Path, required=True)
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=["default", "vit-tiny"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    opinions = opinions_of(options.tid2013)
    scorers = {name: Scorer(load_runtime(name), shown=False) for name in options.model}
    found: dict[str, list[float]] = {name: [] for name in ("psnr", *scorers)}
    said, kinds, photos = [], [], []
    for path in sorted(options.kodak.glob("kodim*.png")):
        pixels, number = cut(path), int(path.stem.removeprefix("kodim"))
        for kind in MADE:
            copies = [at_psnr(pixels, kind, target, path.name) for target in PSNR]
            found["psnr"] += [psnr(pixels, copy) for copy in copies]
            for name, scorer in scorers.items():
                found[name] += [float(score) for score in scorer.score_batch(copies)]
            said += [opinions[number, kind, level] for level in range(1, 6)]
            kinds += [kind] * len(copies)
            photos += [number] * len(copies)
        print(f"{path.name} of {options.kodak}", flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("scores", "figure", "n", "srcc"))
        for name, scores in found.items():
            for figure, n, value in figures(scores, said, kinds, photos):
                writer.writerow((name, figure, n, f"{value:.4f}"))
                print(name, figure, n, f"{value:.4f}", sep="\t")


def opinions_of(folder: Path) -> dict[tuple[int, str, int], float]:
    """Mean opinions by reference number, kind and level."""
    table = TID2013.read(folder)
    assert table.mos is not None
    numbers = (int(content.removeprefix("i")) for content in table.contents)
    levels = map(int, table.columns["level"])
    keys = zip(numbers, table.columns["distortion"], levels, strict=True)
    return dict(zip(keys, map(float, table.mos), strict=True))


def cut(path: Path) -> Bytes:
    """The center of a photo at TID2013's size, in the photo's orientation."""
    pixels = in_eight_bits(read_image(path).numpy()).transpose(1, 2, 0)
    size = SIZE if pixels.shape[1] >= pixels.shape[0] else SIZE[::-1]
    top, left = ((pixels.shape[axis] - size[axis]) // 2 for axis in (0, 1))
    return np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])


def psnr(pixels: Bytes, copy: Bytes) -> float:
    """Peak signal-to-noise ratio over all colors, in dB."""
    error = float(np.mean((pixels.astype(np.float64) - copy) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def at_psnr(pixels: Bytes, kind: str, target: float, name: str) -> Bytes:
    """A copy with a PSNR as near to the target as the kind allows, by bisection.

    Args:
        pixels: the photo.
        kind: a key of `MADE`.
        target: PSNR in dB.
        name: name of the photo; seeds random draws.
    """
    made, seed = MADE[kind], zlib.crc32(f"{name}:{kind}:{target}".encode())
    low, high = np.log(made.mildest), np.log(made.strongest)
    best, distance, tried = pixels, np.inf, set()
    for _ in range(STEPS):
        middle = float(np.exp((low + high) / 2))
        strength = round(middle) if made.whole else middle
        if strength in tried:
            break
        tried.add(strength)
        copy = made.degrade(pixels, strength, seed)
        reached = psnr(pixels, copy)
        if abs(reached - target) < distance:
            best, distance = copy, abs(reached - target)
        if distance < 0.05:
            break
        low, high = ((low + high) / 2, high) if reached > target else (low, (low + high) / 2)
    return best


def figures(
    scores: list[float], said: list[float], kinds: list[str], photos: list[int]
) -> list[tuple[str, int, float]]:
    """SRCC over all, within photos and within each kind: name, number, value."""
    scores_N, said_N = np.array(scores), np.array(said)
    kinds_N, photos_N = np.array(kinds), np.array(photos)

    def srcc(some_N: npt.NDArray[np.bool_]) -> float:
        return float(spearmanr(scores_N[some_N], said_N[some_N])[0])

    within = [srcc(photos_N == number) for number in np.unique(photos_N)]
    rows = [
        ("all", len(said), srcc(photos_N > 0)),
        ("within photos, mean", len(within), float(np.mean(within))),
    ]
    for kind in KINDS:
        if (kinds_N == kind).any():
            rows.append((kind, int((kinds_N == kind).sum()), srcc(kinds_N == kind)))
    return rows


if __name__ == "__main__":
    main()
