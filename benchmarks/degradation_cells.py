"""Compares a model's ranking of degradations with KADID-10k's mean opinions.

    python benchmarks/degradation_cells.py --cells CELLS --kodak KODAK

Each Kodak photo is degraded by every photographic type of KADID-10k at its five levels. CELLS is
the table of the raters' mean opinion of each type and level (docs/datasets.md). The figure is the
SRCC between scores and cell means: over all degraded photos, and within each type. The raters never
saw these photos, so this tests whether a model knows how bad a degradation is, not how good a photo
is. `--model` takes other models than the default.

`clean`, `jpeg 4` ... are mean scores of the clean photos and of three strong degradations, with
their percentile in the model's reference population. Writes
benchmarks/results/degradation_cells.csv.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from qfm_iqm import Scorer, load_runtime
from qfm_iqm.arrays import Bytes
from qfm_iqm.image.decode import in_eight_bits, read_image
from qfm_iqm.image.distortions import distort
from qfm_iqm.training.degradations import Cells, read_cells

RESULTS = Path(__file__).parent / "results" / "degradation_cells.csv"
ADDED = ("webp", "avif")  # KADID-10k's raters did not see these
STRONG = {"jpeg 4": ("jpeg", 4), "blur 5": ("gaussian blur", 5), "noise .01": ("white noise", 0.01)}


def main() -> None:
    """Measures the given models, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--kodak", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    cells = read_cells(arguments.cells).without(ADDED)
    photos = sorted(arguments.kodak.glob("*.png"))
    rows = []
    for name in arguments.model:
        for figure, n, value in measure(name, photos, cells):
            rows.append((name, figure, n, f"{value:.4g}"))
            print(*rows[-1], sep="\t", flush=True)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", "figure", "n", "value"))
        writer.writerows(rows)


def measure(name: str, photos: list[Path], cells: Cells) -> Iterator[tuple[str, int, float]]:
    """Yields the figures of a model: name, number of photos or degraded photos, value."""
    runtime = load_runtime(name)
    scorer = Scorer(runtime, shown=False)  # same order as the shown scores

    def scores(images: list[Bytes]) -> list[float]:
        return [float(score) for score in scorer.score_batch(images)]

    found: dict[str, list[float]] = {kind: [] for kind in cells.levels}
    opinions: dict[str, list[float]] = {kind: [] for kind in cells.levels}
    named: dict[str, list[float]] = {figure: [] for figure in ("clean", *STRONG)}
    for path in photos:
        pixels = np.ascontiguousarray(in_eight_bits(read_image(path).numpy()).transpose(1, 2, 0))
        seed = zlib.crc32(path.name.encode())
        for kind, levels in cells.levels.items():
            found[kind] += scores([distort(pixels, kind, level, seed) for level, _ in levels])
            opinions[kind] += [opinion for _, opinion in levels]
        strong = [distort(pixels, kind, level, seed) for kind, level in STRONG.values()]
        for figure, score in zip(named, scores([pixels, *strong]), strict=True):
            named[figure].append(score)
    whole, said = (
        [value for values in of.values() for value in values] for of in (found, opinions)
    )
    yield "srcc, all types", len(whole), float(spearmanr(whole, said)[0])
    for kind in cells.levels:
        yield f"srcc, {kind}", len(found[kind]), float(spearmanr(found[kind], opinions[kind])[0])
    reference = runtime.card.reference_statistics
    for figure, values in named.items():
        mean = float(np.mean(values))
        yield f"mean score, {figure}", len(values), runtime.card.label.show(mean)
        if reference is not None:
            yield f"percentile, {figure}", len(values), 100 * reference.share_below(mean)


if __name__ == "__main__":
    main()
