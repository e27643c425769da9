"""Load test of the service: many clients on loopback send good, huge and broken files.

    python benchmarks/service_load.py [--clients 64] [--seconds 60] [--files 400]

Starts `qfm serve`, lets the clients send one file after another for the given time, and writes
benchmarks/results/service_load.csv: counts of status codes, images per second, percentiles of the
response time, and the peak memory of the service and its workers. For comparison, `qfm score`
scores the same folder before and after, since other work on the machine affects both; its rate is
the one that it prints, without its start.

Out of 20 files, 16 are photos of 512 x 512 pixels, one has 12 megapixels, one is larger than the
service takes (a small file of 400 megapixels), one is truncated and one is not an image.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import torch
from PIL import Image

from photos import write_photos

RESULTS = Path(__file__).parent / "results" / "service_load.csv"
MIX = {"good": 16, "large": 1, "bomb": 1, "cut": 1, "text": 1}


def main() -> None:
    """Measures, prints and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_mix(folder, options.files)
        others = os.getloadavg()[0]  # load by other work, which affects every figure
        rates = [score_rate(options.model, folder)]
        load = serve_load(options.model, files, options.clients, options.seconds)
        rates.append(score_rate(options.model, folder))
    beside = statistics.mean(rates)
    figures = load | {
        "load_average_before": round(others, 1),
        "score_images_per_second": round(beside, 1),
        "score_images_per_second_before": round(rates[0], 1),
        "score_images_per_second_after": round(rates[1], 1),
        "share_of_score_rate": round(load["images_per_second"] / beside, 3),
    }
    facts = (options.model, options.clients, options.seconds, os.cpu_count(), platform.machine())
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["figure", "value", "model", "clients", "seconds", "cores", "machine", "torch"]
        )
        for figure, value in figures.items():
            writer.writerow([figure, value, *facts, torch.__version__])
            print(f"{figure:36} {value}")
    print(f"Written to {RESULTS}")


def write_mix(folder: Path, count: int) -> list[Path]:
    """Writes files in the proportions of `MIX`, in a repeating order."""
    photos = iter(write_photos(folder, count * MIX["good"] // sum(MIX.values())))
    first = next(folder.glob("*.jpg"))
    large = io.BytesIO()
    Image.open(first).resize((4000, 3000), Image.Resampling.BICUBIC).save(large, "JPEG", quality=90)
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    contents = {
        "large": large.getvalue(),
        "bomb": bomb.getvalue(),
        "cut": first.read_bytes()[:9000],
        "text": b"no image\n" * 2000,
    }
    files = []
    kinds = [kind for kind, number in MIX.items() for _ in range(number)]
    for number in range(count):
        # A step coprime to 20 spreads the odd files out.
        kind = kinds[number * 7 % len(kinds)]
        if kind == "good":
            files.append(next(photos))
            continue
        files.append(folder / f"{kind}_{number:04}.jpg")
        files[-1].write_bytes(contents[kind])
    return files


def score_rate(model: str, folder: Path) -> float:
    """Images per second that `qfm score` prints, with the service's pixel limit."""
    command = [
        sys.executable, "-m", "qfm_iqm", "score", str(folder), "-m", model,
        "-o", str(folder / "scores.csv"), "--max-megapixels", "50",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\(([\d.]+) images/s\)", done.stderr)
    assert found, done.stderr
    return float(found.group(1))


def serve_load(model: str, files: list[Path], clients: int, seconds: float) -> dict[str, float]:
    """Starts the service, runs the clients, and returns the figures."""
    command = [sys.executable, "-m", "qfm_iqm", "serve", "--port", "0", "--model", model]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert service.stderr is not None
        said = service.stderr.readline()
        url = re.search(r"http://\S+", said)
        assert url, said
        return asyncio.run(_load(url.group(), service.pid, files, clients, seconds))
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(120) == 0


async def _load(
    url: str, pid: int, files: list[Path], clients: int, seconds: float
) -> dict[str, float]:
    contents = [(file.name, file.read_bytes()) for file in files]
    codes: Counter[int] = Counter()
    taken: list[float] = []
    resident: list[float] = []
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(
        base_url=url, timeout=300, limits=limits, trust_env=False
    ) as client:
        (await client.post("/v1/score", content=contents[0][1])).raise_for_status()  # warm up
        began = time.perf_counter()

        async def ask(first: int) -> None:
            number = first
            while time.perf_counter() - began < seconds:
                name, content = contents[number % len(contents)]
                number += clients
                sent = time.perf_counter()
                answer = await client.post("/v1/score", files={"files": (name, content)})
                codes[answer.status_code] += 1
                if answer.status_code == 429:
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                    continue
                taken.append(time.perf_counter() - sent)

        async def watch() -> None:
            while True:
                resident.append(_resident(pid))
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(ask(number) for number in range(clients)))
        elapsed = time.perf_counter() - began
        watching.cancel()
    cuts = statistics.quantiles(taken, n=100)
    third = max(1, len(resident) // 3)
    return {
        "images_per_second": round(len(taken) / elapsed, 1),
        "seconds_p50": round(cuts[49], 3),
        "seconds_p95": round(cuts[94], 3),
        "seconds_p99": round(cuts[98], 3),
        "answers": sum(codes.values()),
        **{f"answers_{code}": number for code, number in sorted(codes.items())},
        "answers_5xx": sum(number for code, number in codes.items() if code >= 500),
        "resident_mb_most": round(max(resident), 0),
        "resident_mb_most_first_third": round(max(resident[:third]), 0),
        "resident_mb_most_last_third": round(max(resident[-third:]), 0),
    }


def _resident(pid: int) -> float:
    """Resident megabytes of a process and its children."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in (pid, *children))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
