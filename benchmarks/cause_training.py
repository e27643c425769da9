r"""Trains the network that says why a photo scores low, and puts it into the package.

    nice -n 5 python benchmarks/cause_training.py --root ../shared/data/biq2021 \
        --cells ../shared/labels/kadid10k_cells.csv --cache ../cache

Made for two CPU cores and an hour. Copies with known faults (`training.cause_copies`) of the
best-rated photos of the training split are made once, in shards under `--cache`, and kept as the
views that the network sees. Training keeps its state there after each epoch. A run that was ended
goes on where it was; delete the folder to begin anew.

Photos of the training split that no copy to learn from is made of select the epoch, and set from
which severity on a cause is named: clean ones must stay without a cause in `--clean` of all cases.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

import qfm_iqm
from qfm_iqm.causes.network import FACTS_FILE, NETWORK_FILE
from qfm_iqm.causes.severity import CAUSES, main_cause
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.image.preprocess import reduced_size, resized
from qfm_iqm.image.views import GRID, TILE, WHOLE, views_of
from qfm_iqm.training.cause_copies import Emphasis, drawn_copy
from qfm_iqm.training.cause_network import (
    CauseSeverities,
    Readers,
    TileMeasures,
    WholeMeasures,
)
from qfm_iqm.training.degradations import read_cells

PRETRAINED = Path(qfm_iqm.__file__).parent / "pretrained" / "causes"
BATCH = 64
TILES = 10  # of a copy, seen at a time
LR = 2e-3
SCORED = [i for i in range(GRID**2) if i not in (0, GRID - 1, GRID**2 - GRID, GRID**2 - 1)]
LEAST_NAMED = 4.0  # points: people hardly mind less
SHARD = 500  # copies in a file
PLAIN, LIGHT = 12, 8  # copies of a photo; later ones are for compression
SIDE = 288  # of the working size that the whole photo is reduced by


def main() -> None:
    """Makes what is missing: copies, network, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=1450, help="the best-rated of the split")
    parser.add_argument("--held", type=int, default=150, help="of these, to select by")
    parser.add_argument("--copies", type=int, default=12, help="of each photo")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--clean", type=float, default=0.98)
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    arguments = parser.parse_args()
    make_copies(arguments)
    measure_copies(arguments)
    torch.set_num_threads(1)
    write(train(arguments), arguments)


def photos_of(root: Path, number: int, held: int) -> tuple[list[Path], list[Path]]:
    """Photos to learn from, and to select by: the best-rated of the training split."""
    best = best_of(root, number)
    paths = [best[i] for i in np.random.default_rng(0).permutation(number)]
    return paths[held:], paths[:held]


def best_of(root: Path, number: int) -> list[Path]:
    """The best-rated photos of the training split, the best first."""
    table = read_table(root / "labelled.csv")
    assert table.mos is not None
    train = split_by_content(table, seed=0).indices(table)["train"]
    return table.select(train[np.argsort(-table.mos[train], kind="stable")[:number]]).paths(root)


def make_copies(arguments: argparse.Namespace) -> None:
    """Writes the shards that are not there yet."""
    learned, held = photos_of(arguments.root, arguments.photos, arguments.held)
    for name, photos in (("held", held), ("learned", learned)):
        jobs = [(photo, i) for i in range(arguments.copies) for photo in photos]
        shards = [jobs[start : start + SHARD] for start in range(0, len(jobs), SHARD)]
        folder = arguments.cache / name
        folder.mkdir(parents=True, exist_ok=True)
        missing = [i for i in range(len(shards)) if not (folder / f"{i:03}.npz").exists()]
        with ProcessPoolExecutor(arguments.processes) as pool:
            make = partial(make_shard, arguments.cells, folder)
            for number in pool.map(make, missing, [shards[i] for i in missing]):
                print(f"{name}: shard {number + 1} of {len(shards)}", flush=True)


def make_shard(table: Path, folder: Path, number: int, jobs: list[tuple[Path, int]]) -> int:
    """Makes the copies of one shard."""
    cv2.setNumThreads(1)
    cells = read_cells(table)
    tiles = np.empty((len(jobs), GRID**2, TILE, TILE, 3), np.uint8)
    wholes = np.empty((len(jobs), WHOLE, WHOLE, 3), np.uint8)
    severities = np.empty((len(jobs), len(CAUSES)), np.float32)
    faults = []
    for i, (path, copy) in enumerate(jobs):
        draw = np.random.default_rng([copy, *path.name.encode()])
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        made = drawn_copy(pixels, cells, draw, emphasis_of(copy))
        height, width = made.pixels.shape[:2]
        small = resized(made.pixels, reduced_size(height, width, SIDE), "bilinear")
        views = views_of(made.pixels, small, draw)
        tiles[i], wholes[i], severities[i] = views.tiles, views.whole, made.severities
        faults.append(made.faults)
    place = folder / f"{number:03}.npz"
    partial_place = place.with_suffix(".partial.npz")
    np.savez(partial_place, tiles=tiles, wholes=wholes, severities=severities, faults=faults)
    partial_place.rename(place)
    return number


def emphasis_of(copy: int) -> Emphasis:
    """What a copy of that number has more of."""
    return "" if copy < PLAIN else "light" if copy < PLAIN + LIGHT else "files"


def measure_copies(arguments: argparse.Namespace) -> None:
    """Measures the views of all copies; what is there is kept."""
    shards = [
        place
        for name in ("held", "learned")
        for place in sorted((arguments.cache / name).glob("*.npz"))
        if place.stem.isdigit() and not measures_of(place).exists()
    ]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for place in pool.map(measure_shard, shards):
            print(f"measured {place}", flush=True)


def measures_of(shard: Path) -> Path:
    """Where the measures of a shard lie."""
    return shard.with_suffix(".measures.npz")


@torch.inference_mode()
def measure_shard(shard: Path) -> Path:
    """Measures the copies of one shard."""
    torch.set_num_threads(1)
    tile, whole = TileMeasures(), WholeMeasures()
    with np.load(shard) as views:
        tiles, wholes = (torch.from_numpy(views[name]) for name in ("tiles", "wholes"))
        severities = views["severities"]
    fine = [tile(some.flatten(0, 1)).unflatten(0, (-1, GRID**2)).half() for some in tiles.split(20)]
    coarse = whole(wholes).half()
    place = measures_of(shard)
    partial_place = place.with_suffix(".partial.npz")
    np.savez(
        partial_place,
        tiles=torch.cat(fine).numpy(),
        wholes=coarse.numpy(),
        severities=severities,
    )
    return partial_place.rename(place)


@dataclass(frozen=True)
class Copies:
    """What is learned from, or selected by: measures of N copies, in memory.

    Attributes:
        tiles: (N, T, F), float16.
        wholes: (N, G), float16.
        severities: (N, 6), in points.
    """

    tiles: Tensor
    wholes: Tensor
    severities: Tensor


def read_copies(folder: Path) -> Copies:
    """Reads the measures of all shards of a folder."""
    shards = [np.load(place) for place in sorted(folder.glob("*.measures.npz"))]
    tiles, wholes, severities = (
        torch.from_numpy(np.concatenate([shard[name] for shard in shards]))
        for name in ("tiles", "wholes", "severities")
    )
    return Copies(tiles, wholes, severities)


def train(arguments: argparse.Namespace) -> Readers:
    """Trains, or goes on where an earlier run was ended."""
    torch.manual_seed(0)
    learned, held = (read_copies(arguments.cache / name) for name in ("learned", "held"))
    readers = Readers(learned.tiles.shape[2], learned.wholes.shape[1])
    for name, values in (("tile", learned.tiles[::7].flatten(0, 1)), ("whole", learned.wholes)):
        std, mean = torch.std_mean(values.float(), 0)
        getattr(readers, f"{name}_mean").copy_(mean)
        getattr(readers, f"{name}_std").copy_(std.clamp(min=1e-3))
    optimizer = torch.optim.AdamW(readers.parameters(), lr=LR, weight_decay=0.05)
    steps = len(learned.tiles) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=arguments.epochs * steps, pct_start=0.15
    )
    state = arguments.cache / "state.safetensors"
    first = restore(state, readers, optimizer, schedule, steps) if state.exists() else 0
    for epoch in range(first, arguments.epochs):
        began, total = time.monotonic(), 0.0
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(learned.tiles), generator=generator)
        readers.train()
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            loss = loss_of(readers, learned, chosen, generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(readers.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        keep(state, readers, optimizer, epoch + 1)
        seconds = time.monotonic() - began
        print(f"epoch {epoch}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
        if epoch % 5 == 4:
            print(report(severities_of(readers, held), held, arguments.clean), flush=True)
    return readers


def loss_of(readers: Readers, copies: Copies, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of some copies, each seen through a few of its tiles."""
    which = torch.randperm(GRID**2, generator=generator)[:TILES]
    tiles = copies.tiles[chosen[:, None], which].float()
    severities, logits = readers(tiles, copies.wholes[chosen].float())
    wanted = copies.severities[chosen]
    there = ((wanted - 2) / 6).clamp(0, 1)
    size = functional.smooth_l1_loss(severities / 10, wanted / 10)
    return size + 0.5 * functional.binary_cross_entropy_with_logits(logits, there)


def keep(place: Path, readers: Readers, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Keeps the state after an epoch."""
    tensors = {f"readers.{name}": value for name, value in readers.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
    tensors["epochs"] = torch.tensor(epochs)
    partial_place = place.with_suffix(".partial")
    save_file(tensors, partial_place)
    partial_place.rename(place)


def restore(
    place: Path,
    readers: Readers,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    steps: int,
) -> int:
    """Restores what was kept, and gives the number of epochs that are done."""
    tensors = load_file(place)
    epochs = int(tensors.pop("epochs"))
    own = {n: v for n, v in tensors.items() if n.startswith("readers.")}
    readers.load_state_dict({n.removeprefix("readers."): v for n, v in own.items()})
    for _ in range(epochs * steps):
        schedule.step()
    kept = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            kept["state"].setdefault(int(number), {})[key] = value
    optimizer.load_state_dict(kept)
    return epochs


@torch.inference_mode()
def severities_of(readers: Readers, copies: Copies) -> npt.NDArray[np.float32]:
    """Severities (N, 6) of copies."""
    readers.eval()
    found = [
        readers(tiles[:, SCORED].float(), wholes.float())[0]
        for tiles, wholes in zip(copies.tiles.split(256), copies.wholes.split(256), strict=True)
    ]
    return torch.cat(found).numpy()


def write(readers: Readers, arguments: argparse.Namespace) -> None:
    """Writes the network and its facts into the package."""
    held = read_copies(arguments.cache / "held")
    found, wanted = severities_of(readers, held), held.severities.numpy()
    arguments.out.mkdir(parents=True, exist_ok=True)
    place = arguments.out / NETWORK_FILE
    with np.load(next(arguments.cache.glob("held/000.npz"))) as views:
        tiles = torch.from_numpy(views["tiles"][:2][:, SCORED])
        wholes = torch.from_numpy(views["wholes"][:2])
    torch.onnx.export(
        CauseSeverities(readers).eval(),
        (tiles, wholes),
        place,
        input_names=["tiles", "whole"],
        output_names=["severities"],
        dynamic_shapes=({0: "photos"}, {0: "photos"}),
        external_data=False,
        verbose=False,
    )
    graph = onnx.load(place)
    for node in graph.graph.node:  # where each came from in the code, which nobody needs
        del node.metadata_props[:]
        node.doc_string = ""
    content = graph.SerializeToString()
    place.write_bytes(content)
    facts = {
        "description": "Severities of six causes of low quality, in points of 0 to 100.",
        "license": "Apache-2.0; trained on photos of BIQ2021, whose authors share it for research",
        "least": dict(zip(CAUSES, thresholds(found, wanted, arguments.clean), strict=True)),
        "photos": arguments.photos - arguments.held,
        "copies": (arguments.photos - arguments.held) * arguments.copies,
        "epochs": arguments.epochs,
        "version": qfm_iqm.__version__,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (arguments.out / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    given = {"tiles": tiles.numpy(), "whole": wholes.numpy()}
    (exported,) = onnxruntime.InferenceSession(content).run(None, given)
    print(f"{place}: {len(content)} bytes, off by {np.abs(exported - found[:2]).max():.4f} points")
    print(report(found, held, arguments.clean))


def thresholds(
    found: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    clean: float,
) -> list[float]:
    """From which severity on each cause is named.

    All begin at `LEAST_NAMED`. Then one is raised, again and again, until a share `clean` of the
    copies without a fault has no cause: to where the fewest faults are lost for each such copy.
    """
    alone = found[wanted.max(1) == 0]
    single = (wanted > 0).sum(1) == 1
    faults = [found[single & (wanted[:, i] >= 8), i] for i in range(len(CAUSES))]
    least = np.full(len(CAUSES), LEAST_NAMED)
    while (quiet := (alone < least).all(1)).mean() < clean:
        prices = []
        for i in range(len(CAUSES)):
            others = (np.delete(alone, i, 1) < np.delete(least, i)).all(1)
            for level in np.unique(np.floor(alone[~quiet & others, i] * 10) / 10 + 0.1):
                won = (others & (alone[:, i] < level)).sum() - quiet.sum()
                lost = ((faults[i] >= least[i]) & (faults[i] < level)).mean()
                prices.append((lost / won, i, level))
        _, i, least[i] = min(prices)
    return [round(float(value), 1) for value in least]


def report(found: npt.NDArray[np.float32], copies: Copies, clean: float = 0.97) -> str:
    """Shares that are right on copies with one fault, by cause and by severity."""
    wanted = copies.severities.numpy()
    least = thresholds(found, wanted, clean)
    named = np.array([main_cause(row, least) for row in found.tolist()])
    none = (named[wanted.max(1) == 0] == "none").mean()
    lines = [f"thresholds {least}, clean without a cause {none:.3f}"]
    single = (wanted > 0).sum(1) == 1
    for low, high in ((5, 12), (12, 25), (25, 70)):
        parts = []
        for i, cause in enumerate(CAUSES):
            those = single & (wanted[:, i] >= low) & (wanted[:, i] < high)
            said = Counter(named[those].tolist())
            wrong = ", ".join(f"{k} {n}" for k, n in said.most_common() if k != cause)
            parts.append(f"{cause} {said[cause]}/{those.sum()} ({wrong})")
        lines.append(f"{low}-{high} points: " + "; ".join(parts))
    off = [np.abs(found - wanted)[single & (wanted[:, i] > 0), i] for i in range(len(CAUSES))]
    lines.append("median error " + " ".join(f"{np.median(one):.1f}" for one in off))
    two = (wanted >= 8).sum(1) == 2
    missed = (found < least) & (wanted >= 8)
    both = (missed.sum(1)[two] == 0).mean()
    lines.append(f"two faults, both named: {both:.3f} of {two.sum()}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
