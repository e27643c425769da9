"""Speed of a GPU: the network alone, and photos from files.

    python benchmarks/gpu.py [--backbone deit3_small_patch16_224] [--photos 4000]

For a backbone with random weights and the decoder, in fp32, in bf16 and in bf16 compiled:

* crops per second through the network, with crops already on the GPU, and its arithmetic as a
  share of the rate of a plain bf16 matrix product (8192 x 8192) in the same run;
* the difference of its scores from the CPU's in fp32, in standard deviations of the labels;
* photos per second through the engine: 512 x 512 JPEGs read, cropped and scored, with readers in
  processes; and reading alone.

Writes benchmarks/results/gpu.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from photos import RESULTS, write_photos
from qfm_iqm.image.decode_pool import read_in_processes
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.scoring.runtimes.base import Precision
from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime
from qfm_iqm.scoring.scorer import Scorer

BATCH = 256
VARIANTS: tuple[tuple[Precision, bool], ...] = (("fp32", False), ("bf16", False), ("bf16", True))


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="deit3_small_patch16_224")
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--readers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.csv")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU here that torch can use.")
    rows = network_rows(options.backbone)
    write(rows, options)
    rows += engine_rows(options.backbone, options.photos, options.readers)
    write(rows, options)


def write(rows: list[tuple[str, float]], options: argparse.Namespace) -> None:
    """Writes the figures so far."""
    facts = (options.backbone, torch.cuda.get_device_name(), os.cpu_count(), torch.__version__)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "value", "backbone", "gpu", "cores", "torch"])
        for figure, value in rows:
            writer.writerow([figure, f"{value:.6g}", *facts])
    print(*(f"{figure:44} {value:12.6g}" for figure, value in rows), sep="\n", flush=True)


def quality_model(backbone: str) -> QualityModel:
    """A model with random weights, the same each time."""
    torch.manual_seed(0)
    network = QualityNetwork(backbone)
    preprocessing = Preprocessing(shorter_side=384)
    card = ModelCard(name=backbone, network=network.config, preprocessing=preprocessing)
    return QualityModel(network.eval(), card)


def matrix_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """FLOP/s of a plain matrix product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b)


def seconds(work: object, repeats: int = 20) -> float:
    """Median seconds of a call, by the GPU's clock."""
    assert callable(work)
    for _ in range(5):
        work()
    times = []
    for _ in range(repeats):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        times.append(begun.elapsed_time(ended) / 1e3)
    return float(sorted(times)[repeats // 2])


@torch.inference_mode()
def network_rows(backbone: str) -> list[tuple[str, float]]:
    """Rates of the network alone, and differences of its scores from the CPU's."""
    ceiling = matrix_rate(torch.bfloat16)
    rows = [("matrix_bf16_tflops", ceiling / 1e12)]
    size = quality_model(backbone).network.config.crop
    crops = torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(1))
    own = quality_model(backbone).network(crops[:16])
    with FlopCounterMode(display=False) as counter:
        quality_model(backbone).network(crops[:1])
    flops = counter.get_total_flops()
    on_gpu = crops.cuda()
    for precision, compiled in VARIANTS:
        runtime = TorchRuntime(quality_model(backbone), precision=precision, compiled=compiled)
        name = precision + "_compiled" * compiled
        took = seconds(lambda runtime=runtime: runtime.compute(on_gpu))
        off = (runtime.compute(on_gpu)[:16].cpu() - own).abs().max().item()
        rows += [
            (f"network_{name}_crops_per_second", BATCH / took),
            (f"network_{name}_share_of_matrix_bf16", flops * BATCH / took / ceiling),
            (f"network_{name}_largest_difference", off),
        ]
    return rows


def engine_rows(backbone: str, count: int, readers: int) -> list[tuple[str, float]]:
    """Photos per second, from files."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_photos(Path(folder), 400)  # real scenes, read repeatedly
        photos = [str(files[i % len(files)]) for i in range(count)]
        card = quality_model(backbone).card
        policy = ReadingPolicy(card.preprocessing)
        began = None
        for number, _ in enumerate(read_in_processes(photos, policy, readers, 8 << 30)):
            if number == count // 10:  # all readers run
                began = time.perf_counter()
        assert began is not None
        done = count - count // 10 - 1
        rows.append(("reading_photos_per_second", done / (time.perf_counter() - began)))
        for precision in ("fp32", "bf16"):
            runtime = TorchRuntime(quality_model(backbone), precision=precision)
            scorer = Scorer(runtime, batch_size=BATCH, readers=readers, processes=True)
            began = None
            for number, row in enumerate(scorer.score_paths(photos)):
                assert row.status == "ok", row.error
                if number == count // 10:
                    began = time.perf_counter()
            assert began is not None
            rate = done / (time.perf_counter() - began)
            rows.append((f"engine_{precision}_photos_per_second", rate))
    return rows


if __name__ == "__main__":
    main()
