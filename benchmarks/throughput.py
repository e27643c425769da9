"""Speed of the engine relative to the machine: ratios measured in one run.

    make bench           (or: python benchmarks/throughput.py [--images 500] [--out FILE])

Writes benchmarks/results/throughput.csv (similar files are from another machine, day or model). The
figures, each measured in its own process:

* `matrix_gflops`: a plain fp32 matrix product, the reference for the cores.
* `<backbone>_<runtime>_share`: the encoder's and decoder's arithmetic (torch counts it) per second,
  in batches of 32 crops of 224 pixels, as a share of that rate.
* `<runtime>_crops_per_second`: the default model's network alone, in every installed runtime, on
  crops of the photos.
* `reading_images_per_second`: reading alone, in the engine's processes.
* `network_images_per_second`: the network alone, as `qfm score` computes it, on all crops of a
  photo.
* `engine_images_per_second`, and its share of the slower of those two; `int8_engine_...` in int8.
* `engine_speedup_2_cores`: from one core to two (Linux).
* `first_score_seconds`: a cold `qfm score PHOTO`.
* `cuda_...`: ViT-S in bf16 where there is a GPU.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from photos import RESULTS, machine, write_photos
from qfm_iqm import load_model, load_runtime
from qfm_iqm.image.load import ReadingPolicy, read
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.crop_stream import with_crops
from qfm_iqm.scoring.runtimes.base import Crop, Runtime

OUT = RESULTS / "throughput.csv"
PHOTOS = 32  # in a batch for the network alone
ENCODERS = ("vit_tiny_patch16_224", "deit3_small_patch16_224")


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(WORK[options.work[0]](Path(options.work[1]))))
        return
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), options.images)
        for name in WORK:
            if not name.startswith("one_core"):
                figures |= measured(name, folder)
        if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) >= 2:
            figures |= measured("one_core_engine", folder, cores={0})
            two = measured("engine", folder, cores={0, 1})["engine_images_per_second"]
            figures["engine_speedup_2_cores"] = two / figures["one_core_engine_images_per_second"]
        figures["first_score_seconds"] = first_score(folder)
    slower = min(figures["reading_images_per_second"], figures["network_images_per_second"])
    figures["engine_share_of_the_slower"] = figures["engine_images_per_second"] / slower
    options.out.parent.mkdir(parents=True, exist_ok=True)
    facts = machine()
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "value", "images", *facts])
        for name, value in figures.items():
            writer.writerow([name, f"{value:.4g}", options.images, *facts.values()])
            print(f"{name:50} {value:10.4g}")
    print(f"Written to {options.out}")


def measured(name: str, folder: str, cores: set[int] | None = None) -> dict[str, float]:
    """Runs one piece of work in its own process, only on these cores."""
    environment = dict(os.environ)
    if cores is not None:
        environment["OMP_NUM_THREADS"] = str(len(cores))
    command = [sys.executable, __file__, "--work", name, folder]
    answer = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
        preexec_fn=None if cores is None else (lambda: os.sched_setaffinity(0, cores)),
    )
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


# ---- pieces of work ----


def crops_of(model: QualityModel, folder: Path) -> list[Sequence[Crop]]:
    """The crops of each of some photos, as bytes."""
    policy = ReadingPolicy(model.card.preprocessing)
    paths = sorted(folder.iterdir())[:PHOTOS]
    return [with_crops(read(str(path), policy), policy.preprocessing)[1] for path in paths]


def arithmetic(_: Path) -> dict[str, float]:
    """The networks' arithmetic against a plain matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from photos import matrix_rate, seconds
    from qfm_iqm.image.memory_budget import keep_freed_memory
    from qfm_iqm.model.network import QualityNetwork

    keep_freed_memory()
    rates = [matrix_rate()]
    figures = {}
    crops = torch.rand(32, 3, 224, 224)
    for backbone in ENCODERS:
        network = QualityNetwork(backbone).eval()
        with torch.inference_mode():
            # On a CPU, attention is counted only in its plain form, not fused.
            with (
                torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
                FlopCounterMode(display=False) as counter,
            ):
                network(crops)
            network(crops)
            took = seconds(lambda network=network: network(crops), 5) / 5
        rates.append(matrix_rate())
        figures[f"{backbone}_torch_gflops"] = counter.get_total_flops() / took / 1e9
    matrix = max(rates)
    shares = {name.replace("gflops", "share"): value / matrix for name, value in figures.items()}
    return {"matrix_gflops": matrix} | figures | shares


def runtimes(folder: Path) -> dict[str, float]:
    """The default model's network alone, in every installed runtime."""
    from importlib.util import find_spec

    from photos import seconds
    from qfm_iqm.image.memory_budget import keep_freed_memory
    from qfm_iqm.scoring.runtimes.base import Precision
    from qfm_iqm.scoring.runtimes.export import Target, export
    from qfm_iqm.scoring.runtimes.export_folder import load_exported
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

    keep_freed_memory()
    model = load_model()
    ways: dict[str, Runtime] = {"torch_fp32": TorchRuntime(model, device="cpu")}
    photos = [str(path) for path in sorted(folder.iterdir())]
    with tempfile.TemporaryDirectory() as place:
        targets: dict[Target, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
        precisions: tuple[Precision, ...] = ("fp32", "int8")
        for target, module in targets.items():
            for precision in precisions:
                if find_spec(module) and find_spec("nncf"):
                    made = Path(place) / f"{target}_{precision}"
                    export(model, made, target, precision=precision, photos=photos)
                    ways[f"{target}_{precision}"] = load_exported(made)
    crops = list(chain.from_iterable(crops_of(model, folder)))
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(9):  # in turn: a machine's speed varies
        for name, runtime in ways.items():
            runtime.run(crops)
            took = seconds(lambda runtime=runtime: runtime.run(crops), 2)
            best[name] = min(best[name], took)
    figures = {f"{name}_crops_per_second": 2 * len(crops) / took for name, took in best.items()}
    for target in ("onnx", "openvino"):
        if f"{target}_int8" in ways:
            figures[f"{target}_int8_over_fp32"] = (
                figures[f"{target}_int8_crops_per_second"]
                / figures[f"{target}_fp32_crops_per_second"]
            )
    return figures


def reading(folder: Path) -> dict[str, float]:
    """Reading alone, in as many processes as the engine uses."""
    from qfm_iqm.image.decode_pool import read_in_processes
    from qfm_iqm.image.load import ReadingPolicy
    from qfm_iqm.image.memory_budget import images_share, usable_cores

    policy = ReadingPolicy(load_model().card.preprocessing)
    paths = [str(path) for path in sorted(folder.iterdir())]
    warm = 50
    coming = read_in_processes(
        paths[:warm] + paths, policy, min(16, usable_cores()), images_share(None, 1)
    )
    for _ in range(warm):
        next(coming)
    began = time.perf_counter()
    count = sum(1 for _ in coming)
    return {"reading_images_per_second": count / (time.perf_counter() - began)}


def network(folder: Path) -> dict[str, float]:
    """The network alone, in images with as many crops as these have."""
    from photos import seconds
    from qfm_iqm.image.memory_budget import keep_freed_memory

    keep_freed_memory()
    photos = crops_of(load_model(), folder)
    crops = list(chain.from_iterable(photos))
    runtime = load_runtime()
    runtime.run(crops)
    best = min(seconds(lambda: runtime.run(crops), 5) for _ in range(3))
    return {"network_images_per_second": 5 * len(photos) / best}


def engine(folder: Path) -> dict[str, float]:
    """The engine end to end, after warm-up."""
    return {"engine_images_per_second": engine_rate(load_runtime(), folder)}


def int8_engine(folder: Path) -> dict[str, float]:
    """The same in int8 by ONNX Runtime; nothing if it cannot be exported."""
    from importlib.util import find_spec

    if not find_spec("onnxscript"):
        return {}
    from qfm_iqm.scoring.runtimes.export import export
    from qfm_iqm.scoring.runtimes.export_folder import load_exported

    photos = [str(path) for path in sorted(folder.iterdir())]
    with tempfile.TemporaryDirectory() as place:
        export(load_model(), Path(place) / "int8", "onnx", precision="int8", photos=photos)
        runtime = load_exported(Path(place) / "int8")
    return {"int8_engine_images_per_second": engine_rate(runtime, folder)}


def engine_rate(runtime: Runtime, folder: Path) -> float:
    """Images per second from files to rows: the best of three passes, after warm-up."""
    from qfm_iqm.image.memory_budget import usable_cores
    from qfm_iqm.scoring.scorer import Scorer

    paths = [str(path) for path in sorted(folder.iterdir())]
    warm, passes = 64, 3
    scorer = Scorer(runtime, processes=True, readers=min(16, usable_cores()))
    coming = scorer.score_paths(paths[:warm] + passes * paths)
    for _ in range(warm):
        next(coming)
    times = []
    for _ in range(passes):
        began = time.perf_counter()
        rows = [next(coming) for _ in paths]
        times.append(time.perf_counter() - began)
        assert all(row.status == "ok" for row in rows)
    return len(paths) / min(times)


def one_core_engine(folder: Path) -> dict[str, float]:
    """The same on one core."""
    return {f"one_core_{name}": value for name, value in engine(folder).items()}


def cuda(folder: Path) -> dict[str, float]:
    """ViT-S in bf16 on a GPU, against a matrix product in bf16; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    from torch.utils.flop_counter import FlopCounterMode

    from qfm_iqm.image.preprocess import Preprocessing
    from qfm_iqm.model.card import ModelCard
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.model.network import QualityNetwork
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime
    from qfm_iqm.scoring.scorer import Scorer

    built = QualityNetwork("deit3_small_patch16_224")
    card = ModelCard(name="vit_s", network=built.config, preprocessing=Preprocessing())
    runtime = TorchRuntime(QualityModel(built, card), precision="bf16", compiled=True)
    crops = torch.rand(256, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built(crops[:1].cuda())
    a = torch.rand(8192, 8192, device="cuda", dtype=torch.bfloat16)
    on_gpu = crops.cuda()
    compute = torch.inference_mode()(runtime.compute)

    def rate(work: object, repeats: int) -> float:
        assert callable(work)
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        torch.cuda.synchronize()
        return repeats / (time.perf_counter() - began)

    matrix = rate(lambda: a @ a, 20) * 2 * 8192**3
    passes = rate(lambda: compute(on_gpu), 20)
    scorer = Scorer(runtime, batch_size=256, processes=True, readers=os.cpu_count())
    paths = [str(path) for path in sorted(folder.iterdir())] * 4
    began = time.perf_counter()
    count = sum(1 for _ in scorer.score_paths(paths))
    return {
        "cuda_matrix_bf16_tflops": matrix / 1e12,
        "cuda_vit_s_bf16_crops_per_second": passes * 256,
        "cuda_vit_s_bf16_share": passes * 256 * counter.get_total_flops() / matrix,
        "cuda_vit_s_bf16_engine_images_per_second": count / (time.perf_counter() - began),
    }


def first_score(folder: str) -> float:
    """Seconds of a whole `qfm score PHOTO`: the best of three, files in the system's cache."""
    photo = next(Path(folder).iterdir())
    command = [sys.executable, "-m", "qfm_iqm", "score", str(photo)]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return min(times)


WORK = {
    "arithmetic": arithmetic,
    "runtimes": runtimes,
    "reading": reading,
    "network": network,
    "engine": engine,
    "int8_engine": int8_engine,
    "one_core_engine": one_core_engine,
    "cuda": cuda,
}

if __name__ == "__main__":
    main()
