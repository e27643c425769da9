r"""Are causes named rightly? On photos and generators that the network has never seen.

    python benchmarks/causes.py --cells CELLS --kodak KODAK \
        --root BIQ2021 --cache cache
    python benchmarks/causes.py --speed --root BIQ2021

Photos: Kodak's, and the best-rated of BIQ2021's validation split. Each is degraded by all kinds
that people's opinions are known of, at their five levels, and by the generators of
`cause_generators`, which nothing was learned from. CELLS is the table of opinions
(docs/datasets.md).

* right: the main cause is the true one; or there is none, where people lose fewer than `MINDED`
  points by that kind and level. `named` counts the true cause alone.
* clean: photos that nothing was done to, for which no cause is named.
* error: of the true cause's severity against the opinions' points, median.
* both: of copies with two faults, those whose two causes are both named.
* second: of copies with one fault, those for which a second cause is named all the same.

Writes benchmarks/results/causes.csv. The copies' views are kept under `--cache`. `--speed` measures
what causes cost, in pairs of runs, and writes causes_speed.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from cause_faults import KINDS, points
from cause_generators import GENERATORS, degraded
from qfm_iqm import Scorer
from qfm_iqm.arrays import Bytes
from qfm_iqm.causes.network import CauseNetwork, packaged
from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.preprocess import Preprocessing, reduced_size, resized
from qfm_iqm.image.resize import read_resized
from qfm_iqm.image.views import Views, views_of
from qfm_iqm.training.degradations import CLEAN, Cells, read_cells

RESULTS = Path(__file__).parent / "results" / "causes.csv"
MINDED = 8.0  # points
SIDE = 288  # of the default model's working size
PREPROCESSING = Preprocessing(crop=SIDE, max_aspect=2.0, shorter_side=SIDE, resample="bilinear")
CLEAN_PHOTOS = 100  # of BIQ2021's best, without a fault
TWO = (
    (("gaussian blur", 3), ("jpeg", 3)),
    (("motion blur", 4), ("white noise", 2)),
    (("white noise", 4), ("jpeg", 3)),
    (("darken", 5), ("jpeg", 4)),
    (("color saturation 1", 2), ("white noise", 3)),
    (("gaussian blur", 3), ("white noise in color components", 3)),
    (("box blur", 3), ("webp", 4)),
    (("fewer stops", 5), ("sensor noise", 2)),
)
"""Two faults in a row: kinds and levels that cost at least 12 points each."""


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--kodak", type=Path)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--photos", type=int, default=12, help="of each set")
    parser.add_argument("--network", type=Path, default=packaged())
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.speed:
        measure_speed(arguments.root)
        return
    all_kodak = sorted(arguments.kodak.glob("*.png"))
    sets: dict[str, list[Path]] = {
        "Kodak": all_kodak[: arguments.photos],
        "BIQ2021, best": best_photos(arguments.root, arguments.photos),
    }
    network = CauseNetwork(arguments.network)
    cells = read_cells(arguments.cells)
    trials: list[Trial] = []
    for name, photos in sets.items():
        with ProcessPoolExecutor(arguments.processes) as pool:
            make = partial(views_of_photo, arguments.cells, arguments.cache / "check")
            for file in pool.map(make, photos):
                trials += read_trials(name, file, cells, network)
        # More photos without a fault, as files are read.
        more = best_photos(arguments.root, CLEAN_PHOTOS) if name != "Kodak" else all_kodak
        for path in more[len(photos) :]:
            views = read_resized(path, PREPROCESSING, viewed=True).views
            assert views is not None
            trials.append(Trial(name, "clean", 0, cells, network(views), network))
    rows = list(figures(trials))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("photos", "generator", "cause", "level", "figure", "n", "value"))
        writer.writerows(rows)
    for row in rows:
        print(*row, sep="\t")
    confusion(trials)


def best_photos(root: Path, count: int) -> list[Path]:
    """The best-rated photos of the validation split."""
    table = read_table(root / "labelled.csv")
    assert table.mos is not None
    held = split_by_content(table, seed=0).indices(table)["validation"]
    best = held[np.argsort(-table.mos[held], kind="stable")[:count]]
    return table.select(best).paths(root)


def views_of_photo(table: Path, folder: Path, path: Path) -> Path:
    """The views of a photo and of all its copies, as a file."""
    place = folder / f"{path.stem}.npz"
    if place.exists():
        return place
    cv2.setNumThreads(1)
    cells = read_cells(table)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    draw = np.random.default_rng(zlib.crc32(path.name.encode()))
    names, tiles, wholes = [], [], []
    for name, copy in copies_of(pixels, cells, draw):
        size = reduced_size(copy.shape[0], copy.shape[1], SIDE)
        views = views_of(copy, resized(copy, size, "bilinear"))
        names.append(name)
        tiles.append(views.tiles)
        wholes.append(views.whole)
    folder.mkdir(parents=True, exist_ok=True)
    partial_place = place.with_suffix(".partial.npz")
    np.savez(partial_place, names=names, tiles=np.stack(tiles), wholes=np.stack(wholes))
    return partial_place.rename(place)


def copies_of(
    pixels: Bytes, cells: Cells, draw: np.random.Generator
) -> Iterator[tuple[str, Bytes]]:
    """A photo as it is, with each fault, and with two; by name."""
    yield "clean|0", pixels
    kinds = (kind for kinds in KINDS.values() for kind in kinds)
    for generator in dict.fromkeys([*kinds, *GENERATORS]):
        for level in range(1, 6):
            yield f"{generator}|{level}", _made(pixels, generator, level, cells, draw)
    for first, then in TWO:
        once = _made(pixels, *first, cells, draw)
        yield f"{first[0]} + {then[0]}|0", _made(once, *then, cells, draw)


def _made(pixels: Bytes, name: str, level: int, cells: Cells, draw: np.random.Generator) -> Bytes:
    if name in GENERATORS:
        return degraded(pixels, name, cells, level, draw)
    strength = cells.levels[name][level - 1][0]
    return distort(pixels, name, strength, int(draw.integers(1 << 32)))


class Trial:
    """One copy, what was done to it, and what the network says of it."""

    def __init__(
        self, photos: str, name: str, level: int, cells: Cells, said: npt.NDArray[np.float64],
        network: CauseNetwork,
    ) -> None:  # fmt: skip
        self.photos, self.name, self.level, self.said = photos, name, level, said
        found = network.causes(said)
        self.main, self.second = found.main, found.second
        self.causes = [cause_of(part) for part in name.split(" + ")]
        self.points = 0.0
        if len(self.causes) == 1 and self.causes[0] != "none":
            kind = GENERATORS[name][1] if name in GENERATORS else name
            opinion = cells.levels[kind][level - 1][1]
            self.points = points(min(1.0, (opinion - 1) / (CLEAN - 1)))

    @property
    def named(self) -> bool:
        """Whether the main cause is the true one."""
        return self.main == self.causes[0]

    @property
    def right(self) -> bool:
        """Whether it is, or none where people hardly mind."""
        return self.named or (self.points < MINDED and self.main == "none")


def cause_of(name: str) -> str:
    """The cause that a kind or generator belongs to."""
    if name in GENERATORS:
        return GENERATORS[name][0]
    return next((cause for cause, kinds in KINDS.items() if name in kinds), "none")


def read_trials(photos: str, file: Path, cells: Cells, network: CauseNetwork) -> Iterator[Trial]:
    """What the network says of a photo's copies."""
    with np.load(file) as kept:
        names, tiles, wholes = kept["names"].tolist(), kept["tiles"], kept["wholes"]
    for name, copy_tiles, copy_whole in zip(names, tiles, wholes, strict=True):
        generator, level = name.split("|")
        said = network(Views(copy_tiles, copy_whole))
        yield Trial(photos, generator, int(level), cells, said, network)


def figures(trials: list[Trial]) -> Iterator[tuple[object, ...]]:
    """Rows of the table of results."""
    for photos in [*dict.fromkeys(trial.photos for trial in trials), "all"]:
        own = [trial for trial in trials if photos in (trial.photos, "all")]
        single = [trial for trial in own if len(trial.causes) == 1 and trial.level]
        clean = [trial for trial in own if trial.name == "clean"]
        none = np.mean([trial.main == "none" for trial in clean])
        yield photos, "clean", "none", "0", "right", len(clean), f"{none:.4f}"
        groups: dict[tuple[str, str, str], list[Trial]] = defaultdict(list)
        for trial in single:
            seen = "unseen generators" if trial.name in GENERATORS else "known kinds"
            levels = {1: "1", 2: "2"}.get(trial.level, "3-5")
            for who in (trial.name, seen, "all"):
                for cause in {trial.causes[0], "all" if who != trial.name else trial.causes[0]}:
                    groups[who, cause, levels].append(trial)
                    groups[who, cause, "1-5"].append(trial)
        for (who, cause, levels), found in sorted(groups.items()):
            if photos != "all" and cause != "all":
                continue
            n = len(found)
            if levels != "1-5":
                for figure in ("right", "named"):
                    share = np.mean([getattr(trial, figure) for trial in found])
                    yield photos, who, cause, levels, figure, n, f"{share:.4f}"
            errors = [abs(t.said[CAUSES.index(t.causes[0])] - t.points) for t in found]
            yield photos, who, cause, levels, "error", n, f"{np.median(errors):.2f}"
        severe = [trial for trial in single if trial.level > 2]
        second = np.mean([trial.second != "none" for trial in severe])
        yield photos, "all", "all", "3-5", "second", len(severe), f"{second:.4f}"
        two = [trial for trial in own if len(trial.causes) == 2]
        for name in [*dict.fromkeys(trial.name for trial in two), "all"]:
            both = [
                {trial.main, trial.second} == set(trial.causes)
                for trial in two
                if name in (trial.name, "all")
            ]
            yield photos, name, "two", "3-5", "both", len(both), f"{np.mean(both):.4f}"


def confusion(trials: list[Trial]) -> None:
    """Prints what is said of each kind and level."""
    for name in dict.fromkeys(trial.name for trial in trials):
        parts = []
        for level in range(6):
            own = [t for t in trials if t.name == name and t.level == level]
            if own:
                said = Counter(trial.main for trial in own)
                words = " ".join(f"{cause}:{n}" for cause, n in said.most_common(3))
                parts.append(f"{own[0].points:.0f}p {words}")
        print(f"{name}: {' | '.join(parts)}")


def measure_speed(root: Path, files: int = 100, pairs: int = 5) -> None:
    """Runs in pairs, without and with causes, and the median ratio of their processor times."""
    paths = sorted((root / "images").iterdir())[:files]
    scorers = [Scorer("default", causes=causes, readers=1) for causes in (False, True)]
    times = []
    for _ in range(pairs):
        seconds = []
        for scorer in scorers:
            began = time.process_time()
            assert all(row.status == "ok" for row in scorer.score_paths(paths))
            seconds.append(time.process_time() - began)
        times.append(seconds)
    plain, with_causes = np.median(times, 0) / files * 1000
    ratio = np.median([after / before for before, after in times])
    rows = [
        ("without causes", "processor time, ms", f"{plain:.1f}"),
        ("with causes", "processor time, ms", f"{with_causes:.1f}"),
        ("with causes", "ratio", f"{ratio:.3f}"),
    ]
    with RESULTS.with_name("causes_speed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("what", "figure", "value"))
        writer.writerows(rows)
    print(rows, times)


if __name__ == "__main__":
    main()
