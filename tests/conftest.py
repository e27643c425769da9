"""What many tests need: a tiny model on disk, a folder of real encoded photos, a real service.

They are made once per session and shared: copy what is to be changed.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.image.cropping import Preprocessing
from qfm_iqm.network.card import ModelCard
from qfm_iqm.network.checkpoint import save_model
from qfm_iqm.network.model import QualityModel
from qfm_iqm.network.quality import QualityNetwork

# The networks here are tiny: more threads would only wait for each other.
torch.set_num_threads(1)

TINY_BACKBONE = "test_vit"  # timm's own for tests: 64 channels, patches of 16 pixels
TINY_CROP = 48


def make_model(
    backbone: str = TINY_BACKBONE, *, crop: int = TINY_CROP, seed: int = 0, **options: object
) -> QualityModel:
    """A random model whose scores spread like labels of mean 50 and standard deviation 10."""
    torch.manual_seed(seed)
    network = QualityNetwork(backbone, crop=crop, label_mean=50.0, label_std=10.0, **options)
    card = ModelCard(
        name=f"tiny-{backbone}", network=network.config, preprocessing=Preprocessing(crop=crop)
    )
    return QualityModel(network, card).eval()


@pytest.fixture(scope="session")
def build_model() -> Callable[..., QualityModel]:
    """`make_model(backbone, crop=, seed=, **network options)`."""
    return make_model


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: a random `test_vit` with crops of 48 pixels."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(make_model(), folder)
    return folder


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images `photo_00.jpg` ... of JPEG, PNG and WebP, 40 to 150 pixels wide and high.

    Colour fields of three coarsenesses under noise that grows with the number: no two are alike.
    """
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(11)
    for number in range(12):
        width, height = (int(side) for side in draw.integers(40, 151, 2))
        cells = draw.integers(0, 256, (4 << number % 3, 5 << number % 3, 3), dtype=np.uint8)
        field = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        noise = draw.normal(0, 4 * number, (height, width, 3))
        pixels = (np.asarray(field) + noise).clip(0, 255).astype(np.uint8)
        suffix = (".jpg", ".png", ".webp")[number // 4]
        Image.fromarray(pixels).save(folder / f"photo_{number:02d}{suffix}")
    return folder


# ---- a service: a process of its own on a free port of this machine -----------------------------


@dataclass
class Service:
    process: subprocess.Popen[str]
    url: str
    said: list[str] = field(default_factory=list)

    def client(self, **options: object) -> object:
        httpx = pytest.importorskip("httpx")
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False, **options)

    def children(self) -> list[int]:
        # Each thread has its own: the workers' is one of the pool's.
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        every = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        return [
            pid for pid in every if b"serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@contextmanager
def serving(model: Path, *options: object, env: dict[str, str] | None = None) -> Iterator[Service]:
    command = [sys.executable, "-m", "qfm_iqm", "serve", "--port", "0", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--model", str(model), *map(str, options)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        # A job in the background ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://\S+", line):
            break
    else:
        raise AssertionError("".join(said))
    service = Service(process, found.group(), said)
    # What it says later must not fill the pipe.
    reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
    reader.start()
    try:
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        reader.join(10)


@pytest.fixture(scope="session")
def service(tiny_model_folder: Path) -> Iterator[Service]:
    """A service with small limits, shared: an image may have 1 megapixel and 3 MB."""
    limits = ("--max-megapixels", 1, "--max-file-mb", 3, "--max-request-mb", 5)
    pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
    with serving(tiny_model_folder, *limits) as running:
        yield running


@pytest.fixture
def serve() -> object:
    """`with serve(model, option, ...) as service`: a service of one's own."""
    pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
    return serving
