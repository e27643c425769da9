r"""Trains the network that finds why a photo scores low, and puts it into the package.

    nice -n 5 python benchmarks/cause_training.py --root BIQ2021 \
        --cells CELLS --cache cache

Takes about forty minutes on two CPU cores. Copies of training photos with known faults are made
once (`cause_data`), in shards under `--cache`, and kept as the network's views and as their
measures. Training saves its state there after each epoch. An interrupted run resumes; delete the
folder to start over. Needs the extras train and video.

Held-out photos of the training split set the severity from which a cause is named
(`cause_limits`): a share `--clean` of the clean ones must have no cause.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

import qfm_iqm
from cause_data import (
    LEARNED,
    SCORED,
    Copies,
    count_copies,
    make_copies,
    measure_copies,
    read_copies,
    relight_copies,
)
from cause_limits import report, second_thresholds, thresholds
from cause_network import CauseSeverities, Ensemble, Readers
from qfm_iqm.causes.network import FACTS_FILE, NETWORK_FILE
from qfm_iqm.causes.severity import CAUSES

PRETRAINED = Path(qfm_iqm.__file__).parent / "pretrained" / "causes"
BATCH = 64
MEMBERS = 4  # of the ensemble
TILES = 10  # of a copy per step
LR = 2e-3


def main() -> None:
    """Makes what is missing: copies, network, export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cells", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=1450, help="the best-rated of the split")
    parser.add_argument("--held", type=int, default=150, help="of these, to select by")
    parser.add_argument("--further", type=int, default=950, help="of which light alone is known")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--clean", type=float, default=0.98)
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    arguments = parser.parse_args()
    make_copies(arguments)
    measure_copies(arguments)
    relight_copies(arguments)
    torch.set_num_threads(1)
    write([train(arguments, seed) for seed in range(MEMBERS)], arguments)


def train(arguments: argparse.Namespace, seed: int) -> Readers:
    """Trains one member of the ensemble, or resumes an earlier run."""
    torch.manual_seed(seed)
    learned = read_copies(*(arguments.cache / name for name in LEARNED))
    held = read_copies(arguments.cache / "held")
    readers = Readers(learned.tiles.shape[2], learned.wholes.shape[1])
    for name, values in (("tile", learned.tiles[::7].flatten(0, 1)), ("whole", learned.wholes)):
        std, mean = torch.std_mean(values.float(), 0)
        getattr(readers, f"{name}_mean").copy_(mean)
        getattr(readers, f"{name}_std").copy_(std.clamp(min=1e-3))
    optimizer = torch.optim.AdamW(readers.parameters(), lr=LR, weight_decay=0.1)
    steps = len(learned.tiles) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=arguments.epochs * steps, pct_start=0.15
    )
    state = arguments.cache / f"state_{seed}.safetensors"
    first = restore(state, readers, optimizer, schedule, steps) if state.exists() else 0
    for epoch in range(first, arguments.epochs):
        began, total = time.monotonic(), 0.0
        generator = torch.Generator().manual_seed(100 * seed + epoch)
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
            found, wanted = severities_of([readers], held), held.severities.numpy()
            print(report(found, wanted, arguments.clean), flush=True)
    return readers


def loss_of(readers: Readers, copies: Copies, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of some copies, with a few tiles of each."""
    which = torch.randperm(len(SCORED), generator=generator)[:TILES]
    tiles = copies.tiles[chosen[:, None], which].float()
    severities, logits = readers(tiles, copies.wholes[chosen].float())
    wanted = copies.severities[chosen]
    known = ~wanted.isnan()
    severities, logits, wanted = severities[known], logits[known], wanted[known]
    there = ((wanted - 2) / 6).clamp(0, 1)
    size = functional.smooth_l1_loss(severities / 10, wanted / 10)
    return size + 0.5 * functional.binary_cross_entropy_with_logits(logits, there)


def keep(place: Path, readers: Readers, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Saves the state after an epoch."""
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
    """Restores a saved state, and returns the number of finished epochs."""
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
def severities_of(members: list[Readers], copies: Copies) -> npt.NDArray[np.float32]:
    """Severities (N, 6) of copies."""
    ensemble = Ensemble(members).eval()
    found = [
        ensemble(tiles.float(), wholes.float())[0]
        for tiles, wholes in zip(copies.tiles.split(256), copies.wholes.split(256), strict=True)
    ]
    return torch.cat(found).numpy()


def write(members: list[Readers], arguments: argparse.Namespace) -> None:
    """Writes the network and its facts into the package."""
    held = read_copies(arguments.cache / "held")
    found, wanted = severities_of(members, held), held.severities.numpy()
    arguments.out.mkdir(parents=True, exist_ok=True)
    place = arguments.out / NETWORK_FILE
    with np.load(next(arguments.cache.glob("held/000.npz"))) as views:
        tiles = torch.from_numpy(views["tiles"][:1][:, SCORED])
        wholes = torch.from_numpy(views["wholes"][:1])
    torch.onnx.export(
        CauseSeverities(members).eval(),
        (tiles, wholes),
        place,
        input_names=["tiles", "whole"],
        output_names=["severities"],
        external_data=False,
        verbose=False,
    )
    graph = onnx.load(place)
    for node in graph.graph.node:  # source locations in the code, which nobody needs
        del node.metadata_props[:]
        node.doc_string = ""
    content = graph.SerializeToString()
    place.write_bytes(content)
    least = thresholds(found, wanted, arguments.clean)
    second = second_thresholds(found, wanted, least)
    facts = {
        "description": "Severities of six causes of low quality, in points of 0 to 100.",
        "license": "Apache-2.0; trained on photos of BIQ2021, whose authors share it for research",
        "least": dict(zip(CAUSES, least, strict=True)),
        "second": dict(zip(CAUSES, second, strict=True)),
        "photos": arguments.photos - arguments.held + arguments.further,
        "copies": sum(count_copies(arguments.cache / name) for name in LEARNED),
        "epochs": arguments.epochs,
        "version": qfm_iqm.__version__,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (arguments.out / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    given = {"tiles": tiles.numpy(), "whole": wholes.numpy()}
    (exported,) = onnxruntime.InferenceSession(content).run(None, given)
    print(f"{place}: {len(content)} bytes, off by {np.abs(exported - found[:1]).max():.4f} points")
    print(report(found, wanted, arguments.clean))


if __name__ == "__main__":
    main()
