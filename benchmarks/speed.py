"""Speed of scoring folders: whole `qfm score` runs over 512 x 512 JPEGs, reading included.

    make bench           (or: python benchmarks/speed.py [--images 400] [--model default])

Writes benchmarks/results/speed.csv. Timings depend on the machine: the rows give its number of
cores, and `arithmetic_gflops` is the rate of a plain fp32 matrix product in the same run, for
comparison. Photos are cut from those inside scikit-image's wheel and written at quality 90.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from photos import RESULTS, matrix_rate, write_photos
from qfm_iqm import load_model, load_runtime, read_image
from qfm_iqm.image.preprocess_torch import covering_crops, resize_and_pad
from qfm_iqm.scoring.scorer import Scorer

OUT = RESULTS / "speed.csv"


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = write_photos(Path(folder), options.images)
        rows = [
            ("arithmetic_gflops", matrix_rate()),
            ("network_crops_per_second", network_rate(options.model)),
            *backbone_rates(options.model),
            ("reading_images_per_second", reading_rate(photos)),
            ("engine_images_per_second", engine_rate(options.model, photos)),
            ("command_images_per_second", command_rate(options.model, folder, len(photos))),
        ]
    RESULTS.mkdir(exist_ok=True)
    facts = (options.model, options.images, os.cpu_count(), platform.machine(), torch.__version__)
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "value", "model", "images", "cores", "machine", "torch"])
        for name, value in rows:
            writer.writerow([name, f"{value:.1f}", *facts])
            print(f"{name:42} {value:8.1f}")
    print(f"Written to {OUT}")


def network_rate(name: str) -> float:
    """Crops per second through the network alone."""
    network = load_model(name).network
    size = network.config.crop
    crops = torch.rand(32, 3, size, size)
    with torch.inference_mode():
        network(crops)
        began = time.perf_counter()
        for _ in range(10):
            network(crops)
    return 320 / (time.perf_counter() - began)


def backbone_rates(name: str) -> list[tuple[str, float]]:
    """Crops per second through the backbone alone, in both memory formats."""
    encoder = load_model(name).network.encoder
    size = load_model(name).network.config.crop
    rates = []
    for label, layout in (
        ("channels_last", torch.channels_last),
        ("contiguous", torch.contiguous_format),
    ):
        backbone = encoder.backbone.to(memory_format=layout)
        crops = torch.rand(32, 3, size, size).contiguous(memory_format=layout)
        with torch.inference_mode():
            backbone.forward_features(crops)
            began = time.perf_counter()
            for _ in range(10):
                backbone.forward_features(crops)
        rates.append((f"backbone_{label}_crops_per_second", 320 / (time.perf_counter() - began)))
    return rates


def reading_rate(photos: list[Path]) -> float:
    """Images per second through reading, resizing and cropping in one thread."""
    preprocessing = load_model().card.preprocessing
    began = time.perf_counter()
    for path in photos:
        list(covering_crops(resize_and_pad(read_image(path), preprocessing), preprocessing))
    return len(photos) / (time.perf_counter() - began)


def engine_rate(name: str, photos: list[Path]) -> float:
    """Images per second through the engine, model loaded."""
    scorer = Scorer(load_runtime(name))
    list(scorer.score_paths(photos[:32]))
    began = time.perf_counter()
    rows = list(scorer.score_paths(photos))
    assert all(row.status == "ok" for row in rows)
    return len(photos) / (time.perf_counter() - began)


def command_rate(name: str, folder: str, count: int) -> float:
    """Images per second of the whole command, from its start to its end."""
    out = Path(folder) / "scores.csv"
    command = [sys.executable, "-m", "qfm_iqm", "score", folder, "--out", str(out), "-m", name]
    began = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
