"""Recipes for the rated set, unlabeled photos, and one thread, enough for small tensors."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_file import check_recipe


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def unlabeled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty JPEG files of 80 x 64 pixels, of other scenes, one of them deeper and oddly named."""
    root = tmp_path_factory.mktemp("unlabeled")
    (root / "more").mkdir()
    draw = np.random.default_rng(6)
    for number in range(20):
        cells = draw.integers(60, 196, (3, 3, 3), dtype=np.uint8)
        field = np.asarray(Image.fromarray(cells).resize((80, 64), Image.Resampling.BICUBIC))
        noisy = field + draw.normal(0, 1 + 10 * (number % 5), field.shape)
        name = f"unlabeled{number:02d}.jpg" if number else 'more/a "ü", [b].jpg'
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name, quality=92)
    return root


RecipeMaker = Callable[..., Recipe]


@pytest.fixture(scope="session")
def recipe_content(rated_set: Path) -> Callable[..., dict[str, Any]]:
    """Plain values of a recipe over the rated set; changes as `train__epochs=3`."""

    def make(**changes: Any) -> dict[str, Any]:
        content: dict[str, Any] = {
            "data": {
                "root": str(rated_set),
                "labels": "labelled.csv",
                "name": "noisy scenes",
                "test": 0.2,
                "validation": 0.2,
            },
            "backbone": {"name": "test_vit", "weights": "random"},
            "network": {"crop": 32},
            "method": {"memory": 64},
            "train": {
                "epochs": 3,
                "batch_size": 8,
                "crops_per_image": 4,
                "lr": 3e-4,
                "warmup_epochs": 1,
                "schedule": "cosine",
                "device": "cpu",
                "cache": True,
            },
        }
        for key, value in changes.items():
            section, _, name = key.partition("__")
            content.setdefault(section, {})[name] = value
        return content

    return make


@pytest.fixture(scope="session")
def make_recipe(recipe_content: Callable[..., dict[str, Any]]) -> RecipeMaker:
    """A checked recipe over the rated set; changes as `train__epochs=3`."""
    return lambda **changes: check_recipe(recipe_content(**changes))


@pytest.fixture(scope="session")
def write_recipe() -> Callable[[dict[str, Any], Path], Path]:
    """Writes plain values as a TOML file; JSON's scalars and lists are TOML's."""

    def write(content: dict[str, Any], path: Path) -> Path:
        lines = []
        for section, values in content.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
