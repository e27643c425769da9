"""Compares our engine with the field's toolbox, pyiqa, on the same photos in one run.

    make bench           (or: python benchmarks/toolbox.py [--images 500] [--large 20] [--out FILE])

Writes benchmarks/results/toolbox.csv (a similar file is from a slower machine): images per second,
their arithmetic (GFLOP/s, counted by torch), and the peak memory of all processes, for 512 x 512
JPEGs and for 12 megapixels. With --size, the rows of the other size are kept.

pyiqa's architectures have random weights: only speed is compared, and weights cannot be downloaded
everywhere; the download of their backbones' weights is switched off. `command` scores one image
after the other, as pyiqa's command does; `batched` is a data loader with two processes and batches
of eight, its best way for images of one size. Rates leave out loading the model. Each measurement
stops after --seconds, and counts the images done by then.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from photos import RESULTS, machine, peak_memory, write_photos

OUT = RESULTS / "toolbox.csv"
THEIRS = ("topiq_nr", "hyperiqa", "musiq", "cnniqa")
OURS = ("default", "default_int8", "vit_s")
SMALL, LARGE = "512x512", "4000x3000"


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--large", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--size", choices=(SMALL, LARGE), help="measure only this size")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows = kept(options.out, options.size)
    for size, count in ((SMALL, options.images), (LARGE, options.large)):
        if options.size not in (None, size):
            continue
        with tempfile.TemporaryDirectory() as folder:
            width, height = map(int, size.split("x"))
            write_photos(Path(folder), count, size=(width, height))
            for name, way in [(n, "engine") for n in OURS] + [
                (n, way) for n in THEIRS for way in ("command", "batched")
            ]:
                if size == LARGE and way == "batched":
                    continue  # batches of eight 12-megapixel images exceed the memory
                rows.append({"model": name, "way": way, "size": size})
                rows[-1] |= measured(name, way, folder, options.seconds)
                print({k: v for k, v in rows[-1].items() if v != ""}, flush=True)
                write(options.out, rows)  # each takes a minute or more: keep finished ones
    print(f"Written to {options.out}")


def kept(out: Path, size: str | None) -> list[dict[str, Any]]:
    """Rows of the other size, if only one is measured."""
    if size is None or not out.exists():
        return []
    with out.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["size"] != size]


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the rows so far, compared with topiq_nr's command on the same size."""
    topiq = {row["size"]: row for row in rows if (row["model"], row["way"]) == THEIRS_FIRST}
    for row in rows:
        first = float(topiq.get(row["size"], {}).get("images_per_second") or 0)
        if first and row.get("images_per_second"):
            row["times_topiq_nr_command"] = f"{float(row['images_per_second']) / first:.3g}"
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = machine()
    columns = dict.fromkeys(key for row in rows for key in row if key not in facts)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *facts], lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(facts | row for row in rows)  # kept rows have their own facts


THEIRS_FIRST = ("topiq_nr", "command")


def measured(name: str, way: str, folder: str, limit: float) -> dict[str, Any]:
    """Runs one measurement in its own process, and counts its arithmetic in another."""
    begin = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    example = min(Path(folder).iterdir())
    try:
        memory, printed = peak_memory(
            begin + "from toolbox import work; work(*sys.argv[1:])", name, way, folder, limit
        )
        _, counted = peak_memory(
            begin + "from toolbox import flops; print(flops(*sys.argv[1:]))", name, example
        )
    except RuntimeError as error:
        return {"failed": str(error)}
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    rate = figures["images_per_second"] * float(counted.splitlines()[-1]) / 1e9
    return figures | {"gflops_per_second": round(rate, 2), "peak_mb": round(memory)}


def work(name: str, way: str, folder: str, limit: str) -> None:
    """What the measured process does."""
    paths = [str(path) for path in sorted(Path(folder).iterdir())]
    run = {"engine": _engine, "command": _command, "batched": _batched}[way](name)
    # Warm up on a small photo; nothing else is cached between images.
    with tempfile.TemporaryDirectory() as other:
        for _ in run([str(path) for path in write_photos(Path(other), 1)]):
            pass
    began, done, taken = time.perf_counter(), 0, 0.0
    for count in run(paths):
        now = time.perf_counter() - began
        if done and now > float(limit):
            break  # rows come in bursts: stop before the next one
        done, taken = done + count, now
    print(json.dumps({"images": done, "images_per_second": round(done / taken, 4)}))
    sys.stdout.flush()


Run = Callable[[list[str]], Iterator[int]]


def _vit_s() -> Any:
    from qfm_iqm.image.preprocess import Preprocessing
    from qfm_iqm.model.card import ModelCard
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.model.network import QualityNetwork

    network = QualityNetwork("deit3_small_patch16_224")
    card = ModelCard(name="vit_s", network=network.config, preprocessing=Preprocessing())
    return QualityModel(network, card).eval()


def _engine(name: str) -> Run:
    """Our engine: the default model, the same in int8, or ViT-S on covering crops."""
    from qfm_iqm.image.memory_budget import keep_freed_memory, usable_cores
    from qfm_iqm.scoring.runtimes.load import load_runtime
    from qfm_iqm.scoring.scorer import Scorer

    keep_freed_memory()
    if name == "vit_s":
        runtime = _vit_s()
    else:
        runtime = load_runtime("default", precision="int8" if name == "default_int8" else None)
    scorer = Scorer(runtime, processes=True, readers=min(16, usable_cores()))

    def run(paths: list[str]) -> Iterator[int]:
        for row in scorer.score_paths(paths):
            assert row.status == "ok", row.error
            yield 1

    return run


def _metric(name: str) -> Any:
    """A pyiqa architecture with random weights."""
    import pyiqa
    import timm

    create = timm.create_model

    def without_weights(*arguments: Any, **options: Any) -> Any:
        return create(*arguments, **(options | {"pretrained": False}))

    timm.create_model = without_weights
    return pyiqa.create_metric(name, device="cpu", pretrained=None if name == "cnniqa" else False)


def flops(name: str, example: str) -> float:
    """Floating-point operations for one image, as torch counts them."""
    import torch

    if name in OURS:
        from qfm_iqm.image.preprocess import covering_crops
        from qfm_iqm.image.resize import read_resized
        from qfm_iqm.model.folder import load_model

        model = _vit_s() if name == "vit_s" else load_model()
        preprocessing = model.card.preprocessing
        pixels = read_resized(example, preprocessing).pixels
        # On a CPU, attention is counted only in its plain form, not fused.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return sum(
                _counted(model.network, torch.rand(1, *crop.shape))
                for crop in covering_crops(pixels, preprocessing)
            )
    from pyiqa.utils.img_util import imread2tensor

    return _counted(_metric(name), imread2tensor(example)[None])


def _counted(metric: Any, image: Any) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        metric(image)
    return float(counter.get_total_flops())


def _command(name: str) -> Run:
    """One image after the other, as pyiqa's command scores a folder."""
    import torch

    metric = _metric(name)

    def run(paths: list[str]) -> Iterator[int]:
        with torch.inference_mode():
            for path in paths:
                float(metric(path))
                yield 1

    return run


def _batched(name: str) -> Run:
    """A data loader beside the network."""
    import torch
    from pyiqa.utils.img_util import imread2tensor
    from torch.utils.data import DataLoader

    metric = _metric(name)

    def run(paths: list[str]) -> Iterator[int]:
        loader: DataLoader[Any] = DataLoader(
            _Images(paths, imread2tensor),  # type: ignore[arg-type]
            batch_size=8,
            num_workers=2,
        )
        with torch.inference_mode():
            for images in loader:
                metric(images)
                yield len(images)

    return run


class _Images:
    def __init__(self, paths: list[str], read: Callable[[str], Any]) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        return self.read(self.paths[number])


if __name__ == "__main__":
    main()
