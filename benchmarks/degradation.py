"""Tests scores on degraded photos: L-test, D-test, flips and a shift by one pixel.

    python benchmarks/degradation.py --kodak KODAK --root BIQ2021

On the Kodak photos and on the best-rated photos of BIQ2021, degraded in six ways at five levels:

* L-test: how often the stronger of two adjacent levels has the lower score; ties count as wrong.
  The second figure counts the clean photo as level 0.
* D-test: how well scores separate clean photos from degraded ones: area under the ROC curve over
  all pairs, and balanced accuracy at the best threshold.
* flip and shift by one pixel: change of the score in % of the scale, 95th percentile and maximum.

`--photos 50` takes fewer of BIQ2021's best photos, `--model` another model. Scores are cached in
`cache/degradation/` by the model's weights: delete that folder after a change to how photos are
cropped or degraded. Writes benchmarks/results/degradation.csv and degradation.svg (mean score by
level).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch

from degradation_figure import draw_degradation
from degradation_measures import curve_of, detection, level_order
from qfm_iqm import Scorer, load_runtime, read_image
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import distort_tensor
from qfm_iqm.model.folder import load_card

RESULTS = Path(__file__).parent / "results" / "degradation.csv"
CACHE = Path("cache") / "degradation"
SHIFTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flip left-right": lambda image: image.flip(-1),
    "shift by one pixel": lambda image: image[:, 1:, 1:],
}


def main() -> None:
    """Measures both sets of photos, prints, writes and draws the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    name = load_card(arguments.model).name
    sets = {}
    if arguments.kodak:
        sets["Kodak"] = sorted(arguments.kodak.glob("*.png"))
    if arguments.root:
        sets["BIQ2021, best"] = best_photos(arguments.root, arguments.photos)
    curves, figures = {}, []
    with ProcessPoolExecutor(
        os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for photos, paths in sets.items():
            measured = list(pool.map(measure, [arguments.model] * len(paths), paths))
            curves[photos] = {kind: curve_of([x[kind] for x in measured]) for kind in LEVELS}
            figures += list(evaluate_model(photos, measured))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "photos", "n", "degradation", "figure", "value"])
        for row in figures:
            writer.writerow([name, *row[:-1], round(row[-1], 4)])
            print(*row)
        for photos, by_kind in curves.items():
            for kind, means in by_kind.items():
                for level, mean in enumerate(means):
                    figure = f"mean score, level {level}"
                    n = len(sets[photos])
                    writer.writerow([name, photos, n, kind, figure, round(mean, 3)])
    draw_degradation(curves, name, arguments.out.with_suffix(".svg"))


def best_photos(root: Path, count: int) -> list[Path]:
    """The photos that people rated best."""
    table = read_table(root / "labelled.csv")
    assert table.mos is not None
    return table.select(np.argsort(-table.mos, kind="stable")[:count]).paths(root)


@cache
def scorer_of(model: str) -> Scorer:
    """A scorer, loaded once per process."""
    return Scorer(load_runtime(model))


def measure(model: str, path: Path) -> dict[str, list[float]]:
    """Scores of a photo at levels 0 to 5 of each degradation, flipped and shifted; cached."""
    scorer = scorer_of(model)
    file = CACHE / scorer.runtime.weights[:16] / f"{path.stem}.json"
    if file.is_file():
        found: dict[str, list[float]] = json.loads(file.read_text("utf-8"))
        return found
    image = read_image(path)
    moved = [move(image) for move in SHIFTS.values()]
    clean, *others = scorer.score_batch([image, *moved]).tolist()
    scores = {name: [clean, other] for name, other in zip(SHIFTS, others, strict=True)}
    for kind in LEVELS:
        degraded = [distort_tensor(image, kind, level) for level in range(1, 6)]
        scores[kind] = [clean, *scorer.score_batch(degraded).tolist()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(scores), "utf-8")
    return scores


def evaluate_model(
    name: str, measured: list[dict[str, list[float]]]
) -> Iterator[tuple[str, int, str, str, float]]:
    """L-test, D-test, flip and shift of one set of photos."""
    n, pooled = len(measured), []
    for kind in LEVELS:
        scores = np.array([one[kind] for one in measured])
        pooled.append(scores)
        yield name, n, kind, "L-test, levels 1 to 5", level_order(scores[:, 1:])
        yield name, n, kind, "L-test, clean to 5", level_order(scores)
        area, balanced = detection(scores[:, 0], scores[:, 1:].ravel())
        yield name, n, kind, "D-test, area under ROC", area
        yield name, n, kind, "D-test, best threshold", balanced
    everything = np.concatenate(pooled)
    yield name, n, "all", "L-test, levels 1 to 5", level_order(everything[:, 1:])
    yield name, n, "all", "L-test, clean to 5", level_order(everything)
    clean = np.array([one["gaussian blur"][0] for one in measured])
    area, balanced = detection(clean, everything[:, 1:].ravel())
    yield name, n, "all", "D-test, area under ROC", area
    yield name, n, "all", "D-test, best threshold", balanced
    for move in SHIFTS:
        change = np.abs([one[move][1] - one[move][0] for one in measured])
        yield name, n, move, "change, 95th percentile", float(np.quantile(change, 0.95))
        yield name, n, move, "change, most", float(change.max())


if __name__ == "__main__":
    main()
