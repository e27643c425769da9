"""Cost of the method: a training step beside the baseline's, and matching by memory size.

    python benchmarks/method_cost.py        (writes benchmarks/results/method_cost.csv)

A step is whole (forward, backward, clipping, optimizer): a ViT-Tiny on 32 random crops, for DLE
with 16 more unlabeled crops. The variants take turns, step by step, so that changes of the
machine's speed affect all equally; the ratio is that of the medians. Matching uses the rule
`quality` for a batch of 32 and a full memory bank. Its entries hold one token here, since matching
uses no other; the bytes are those of a bank with all 197 tokens. Weights are random, which does not
change the times.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from qfm_iqm.method.config import MethodConfig
from qfm_iqm.method.matching import match_quality
from qfm_iqm.method.memory_bank import MemoryBank, memory_bytes
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.objective import Objective
from qfm_iqm.training.recipe_schema import TrainConfig
from qfm_iqm.training.schedule import build_optimizer

RESULTS = Path(__file__).parent / "results" / "method_cost.csv"
BACKBONE, CROP, BATCH, UNRATED = "vit_tiny_patch16_224", 224, 32, 16
TOKENS, WIDTH = 197, 192
VARIANTS = {"baseline": ("baseline", 0), "qfm": ("qfm", 0), "qfm_dle": ("qfm", UNRATED)}


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="steps of each variant")
    parser.add_argument("--largest", type=int, default=10**6, help="entries")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = step_rows(options.rounds) + matching_rows(options.largest)
    facts = (os.cpu_count(), platform.machine(), torch.__version__)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "of", "value", "unit", "cores", "machine", "torch"])
        for figure, of, value, unit in rows:
            writer.writerow([figure, of, f"{value:.4g}", unit, *facts])
            print(f"{figure:18} {of:>10} {value:10.4g} {unit}")
    print(f"Written to {RESULTS}")


def step_rows(rounds: int) -> list[tuple[str, str, float, str]]:
    """Median seconds of a training step, and each variant's ratio to the baseline."""
    steps = {name: training_step(*options) for name, options in VARIANTS.items()}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(timed(step))
    found = {name: median(values) for name, values in seconds.items()}
    rows = [("step", name, value, "s") for name, value in found.items()]
    return rows + [
        ("step_ratio", name, value / found["baseline"], "x baseline")
        for name, value in found.items()
        if name != "baseline"
    ]


def training_step(kind: str, unlabeled: int) -> Callable[[], None]:
    """A step of the trainer, with its own network and a memory bank that starts full."""
    config = MethodConfig.model_validate({"kind": kind})
    network = QualityNetwork(BACKBONE, crop=CROP)
    objective = Objective(network, config).train()
    optimizer = build_optimizer(network, TrainConfig())
    size = BATCH + unlabeled
    crops_BCSS, labels_B = torch.rand(size, 3, CROP, CROP), torch.randn(size)
    supervised_B = torch.arange(size) < BATCH
    contents_B = torch.arange(size)
    if objective.memory is not None:
        entries = config.memory
        tokens_MND = torch.randn(entries, TOKENS, WIDTH)
        objective.memory.push(tokens_MND, torch.randn(entries), torch.arange(entries) + size)

    def step() -> None:
        loss = objective(crops_BCSS, labels_B, contents_B, 1.0, supervised_B=supervised_B)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def matching_rows(largest: int) -> list[tuple[str, str, float, str]]:
    """Milliseconds to match a batch, and GiB of the bank, for 1,000 entries and more."""
    rows: list[tuple[str, str, float, str]] = []
    semantics_BD, labels_B, contents_B = torch.randn(BATCH, WIDTH), torch.randn(BATCH), ids(BATCH)
    entries = 1000
    while entries <= largest:
        memory = MemoryBank(entries)
        memory.push(torch.randn(entries, 1, WIDTH), torch.randn(entries), ids(entries) + BATCH)

        def match(memory: MemoryBank = memory) -> None:
            match_quality(semantics_BD, labels_B, contents_B, memory)

        match()
        milliseconds = 1000 * median(timed(match) for _ in range(5))
        rows.append(("matching", str(entries), milliseconds, "ms"))
        rows.append(("memory", str(entries), memory_bytes(entries, TOKENS, WIDTH) / 2**30, "GiB"))
        entries *= 10
    return rows


def ids(count: int) -> Tensor:
    """Ids of different contents."""
    return torch.arange(count)


def timed(work: Callable[[], None]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
