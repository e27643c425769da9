"""Shared fixtures: a tiny model on disk, a folder of real encoded photos, a real service.

They are made once per session and shared: copy what you change.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.folder import save_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer

from .bursts import library
from .forking import forked
from .ranks import two_ranks
from .rated import rated_set
from .services import Service, serving
from .trees import Row, write_tree

__all__ = ["forked", "library", "rated_set", "two_ranks"]  # fixtures from other modules

# Tests use their own test splits, which the project's ledger must not record.
os.environ["QFM_TEST_LEDGER"] = str(Path(tempfile.mkdtemp()) / "test_ledger.csv")

# A slow machine must not fail, and the whole suite must stay short.
settings.register_profile(
    "suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# The networks are tiny: more threads would only wait for each other.
torch.set_num_threads(1)

TINY_BACKBONE = "test_vit"  # timm's test model: 64 channels, patches of 16 pixels
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

    Color fields of three scales with noise that grows with the number: no two are alike.
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


@pytest.fixture(scope="session")
def photo_paths(photo_folder: Path) -> list[str]:
    """The images of `photo_folder`, in order."""
    return [str(path) for path in sorted(photo_folder.iterdir())]


@pytest.fixture(scope="session")
def photo_rows(photo_paths: list[str], tiny_model_folder: Path) -> list[ScoreRow]:
    """Their scores by the tiny model, with causes."""
    scorer = Scorer(str(tiny_model_folder), causes=True, readers=2)
    return list(scorer.score_paths(photo_paths))


@pytest.fixture(scope="session")
def official_trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Row]]]:
    """By dataset: a small tree in its official format, and the names and labels it holds."""
    root = tmp_path_factory.mktemp("official")
    return {name: (root / name, write_tree(name, root / name)) for name in DATASETS}


@pytest.fixture(scope="session")
def service(tiny_model_folder: Path) -> Iterator[Service]:
    """A service with small limits, shared: an image may have 1 megapixel and 3 MB."""
    limits = ("--max-megapixels", 1, "--max-file-mb", 3, "--max-request-mb", 5)
    pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
    with serving(tiny_model_folder, *limits) as running:
        yield running


@pytest.fixture
def serve() -> object:
    """`with serve(model, option, ...) as service`: a separate service."""
    pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
    return serving
