"""Photo copies with known faults and their measures, in shards: the data of `cause_training`.

Folders in the cache:

* `learned`: copies of the best-rated photos of the training split;
* `relit`: measures of those without a fault of light or color, after adding one;
* `further`: copies of the next-best photos, which have faults of their own. So only faults of light
  and color are added, and training ignores the other causes;
* `held`: copies of some of the best-rated photos that no other folder uses.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cause_copies import Emphasis, drawn_copy, relit
from cause_network import TileMeasures, WholeMeasures
from qfm_iqm.arrays import Bytes, Floats
from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.preprocess import reduced_size, resized
from qfm_iqm.image.views import GRID, TILE, WHOLE, views_of
from qfm_iqm.training.degradations import read_cells

SHARD = 500  # copies per file
SIDE = 288  # shorter side of the reduced photo that the whole view is made from
SCORED = [i for i in range(GRID**2) if i not in (0, GRID - 1, GRID**2 - GRID, GRID**2 - 1)]
Job = tuple[Path, int, Emphasis]
COPIES: tuple[Emphasis, ...] = (
    *5 * ("",),
    *("film", "video", "light", "video", "film", "files", "film"),
    *3 * ("codecs",),
    *6 * ("two",),
)
HELD: tuple[Emphasis, ...] = (*12 * ("",), *8 * ("light",), *3 * ("files",))
"""Emphasis of each copy of a photo: `COPIES` for training, `HELD` for selection."""
LEARNED = ("learned", "further", "relit")
TONES = 4  # copies per further photo; only their light and color are known


def photos_of(root: Path, number: int, held: int) -> tuple[list[Path], list[Path]]:
    """Photos for training and for selection: the best-rated of the training split."""
    best = best_of(root, number)
    paths = [best[i] for i in np.random.default_rng(0).permutation(number)]
    return paths[held:], paths[:held]


def best_of(root: Path, number: int) -> list[Path]:
    """The best-rated photos of the training split, best first."""
    table = read_table(root / "labelled.csv")
    assert table.mos is not None
    train = split_by_content(table, seed=0).indices(table)["train"]
    return table.select(train[np.argsort(-table.mos[train], kind="stable")[:number]]).paths(root)


def make_copies(arguments: argparse.Namespace) -> None:
    """Writes the missing shards."""
    learned, held = photos_of(arguments.root, arguments.photos, arguments.held)
    further = best_of(arguments.root, arguments.photos + arguments.further)[arguments.photos :]
    jobs: dict[str, list[Job]] = {
        "held": [(photo, *copy) for copy in enumerate(HELD) for photo in held],
        "further": [(photo, i, "tones") for i in range(TONES) for photo in further],
        "learned": [(photo, *copy) for copy in enumerate(COPIES) for photo in learned],
    }
    for name, all_jobs in jobs.items():
        shards = [all_jobs[start : start + SHARD] for start in range(0, len(all_jobs), SHARD)]
        folder = arguments.cache / name
        folder.mkdir(parents=True, exist_ok=True)
        missing = [i for i in range(len(shards)) if not (folder / f"{i:03}.npz").exists()]
        with ProcessPoolExecutor(arguments.processes) as pool:
            make = partial(make_shard, arguments.cells, folder)
            for number in pool.map(make, missing, [shards[i] for i in missing]):
                print(f"{name}: shard {number + 1} of {len(shards)}", flush=True)


def make_shard(table: Path, folder: Path, number: int, jobs: list[Job]) -> int:
    """Makes the copies of one shard."""
    cv2.setNumThreads(1)
    cells = read_cells(table)
    tiles = np.empty((len(jobs), GRID**2, TILE, TILE, 3), np.uint8)
    wholes = np.empty((len(jobs), WHOLE, WHOLE, 3), np.uint8)
    severities = np.empty((len(jobs), len(CAUSES)), np.float32)
    faults = []
    for i, (path, copy, emphasis) in enumerate(jobs):
        draw = np.random.default_rng([copy, *path.name.encode()])
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        made = drawn_copy(pixels, cells, draw, emphasis)
        height, width = made.pixels.shape[:2]
        small = resized(made.pixels, reduced_size(height, width, SIDE), "bilinear")
        views = views_of(made.pixels, small, draw)
        tiles[i], wholes[i], severities[i] = views.tiles, views.whole, made.severities
        if emphasis == "tones":
            severities[i, : CAUSES.index("exposure")] = np.nan
        faults.append(made.faults)
    place = folder / f"{number:03}.npz"
    partial_place = place.with_suffix(".partial.npz")
    np.savez(partial_place, tiles=tiles, wholes=wholes, severities=severities, faults=faults)
    partial_place.rename(place)
    return number


def measure_copies(arguments: argparse.Namespace) -> None:
    """Measures the views of all copies that are not measured yet."""
    shards = [
        place
        for name in ("held", "further", "learned")
        for place in sorted((arguments.cache / name).glob("*.npz"))
        if place.stem.isdigit() and not measures_of(place).exists()
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for place in pool.map(measure_shard, shards):
            print(f"measured {place}", flush=True)


def measures_of(shard: Path) -> Path:
    """Path of a shard's measures."""
    return shard.with_suffix(".measures.npz")


def measure_shard(shard: Path) -> Path:
    """Measures the copies of one shard."""
    with np.load(shard) as views:
        tiles, wholes, severities = (views[name] for name in ("tiles", "wholes", "severities"))
    return _measured(measures_of(shard), tiles[:, SCORED], wholes, severities)


@torch.inference_mode()
def _measured(place: Path, tiles: Bytes, wholes: Bytes, severities: Floats) -> Path:
    torch.set_num_threads(1)
    tile, whole = TileMeasures(), WholeMeasures()
    fine = [
        tile(some.flatten(0, 1)).unflatten(0, some.shape[:2]).half()
        for some in torch.from_numpy(tiles).split(25)
    ]
    coarse = whole(torch.from_numpy(wholes)).half()
    partial_place = place.with_suffix(".partial.npz")
    np.savez(
        partial_place,
        tiles=torch.cat(fine).numpy(),
        wholes=coarse.numpy(),
        severities=severities,
    )
    return partial_place.rename(place)


def relight_copies(arguments: argparse.Namespace) -> None:
    """Measures copies without faults of light or color again, with such faults."""
    (arguments.cache / "relit").mkdir(exist_ok=True)
    shards = [
        place
        for place in sorted((arguments.cache / "learned").glob("*.npz"))
        if place.stem.isdigit() and not _relit(place).exists()
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for place in pool.map(partial(relight_shard, arguments.cells), shards):
            print(f"measured {place}", flush=True)


def _relit(shard: Path) -> Path:
    return measures_of(shard.parent.parent / "relit" / shard.name)


def relight_shard(table: Path, shard: Path) -> Path:
    """Measures the views of a shard's copies after `relit`."""
    cells = read_cells(table)
    with np.load(shard) as views:
        without = (views["severities"][:, CAUSES.index("exposure") :] == 0).all(1)
        names = ("tiles", "wholes", "severities")
        tiles, wholes, severities = (views[name][without] for name in names)
    tiles = tiles[:, SCORED]
    draw = np.random.default_rng(int(shard.stem))
    for i in range(len(tiles)):
        both = np.concatenate([tiles[i].reshape(-1, TILE, 3), wholes[i]])  # one image
        made = relit(both, cells, draw)
        tiles[i] = made.pixels[:-WHOLE].reshape(tiles[i].shape)
        wholes[i] = made.pixels[-WHOLE:]
        severities[i] += made.severities
    return _measured(_relit(shard), tiles, wholes, severities)


@dataclass(frozen=True)
class Copies:
    """Measures of N copies in memory, for training or selection.

    Attributes:
        tiles: (N, T, F), float16.
        wholes: (N, G), float16.
        severities: (N, 6), in points.
    """

    tiles: Tensor
    wholes: Tensor
    severities: Tensor


def read_copies(*folders: Path) -> Copies:
    """Reads the measures of all shards in the folders."""
    shards = [
        np.load(place) for folder in folders for place in sorted(folder.glob("*.measures.npz"))
    ]
    tiles, wholes, severities = (
        torch.from_numpy(np.concatenate([shard[name] for shard in shards]))
        for name in ("tiles", "wholes", "severities")
    )
    return Copies(tiles, wholes, severities)


def count_copies(folder: Path) -> int:
    """Number of measured copies in a folder."""
    return sum(len(np.load(place)["severities"]) for place in folder.glob("*.measures.npz"))
