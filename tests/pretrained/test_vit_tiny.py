"""The accurate packaged model: the part trained here, on top of timm's public ViT-Tiny."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import skimage
from safetensors import safe_open

from qfm_iqm import load_model, read_image
from qfm_iqm.image.preprocess_torch import distort_tensor
from qfm_iqm.model.folder import load_card

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
FOLDER = Path(str(resources.files("qfm_iqm"))) / "pretrained" / "vit-tiny"


@pytest.fixture(scope="module")
def model():
    if not (WEIGHTS / f"{BACKBONE}.safetensors").is_file():
        pytest.skip(f"the public weights {BACKBONE} are not beside the project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QFM_BACKBONE_DIR", str(WEIGHTS))
        return load_model("vit-tiny")


def test_it_is_small_and_holds_no_weight_of_the_backbone():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 6_000_000
    with safe_open(FOLDER / "model.safetensors", framework="np") as file:
        sizes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    # Each backbone layer has two factors of rank 16 at most, never its own weights.
    layers = [shape for key, shape in sizes.items() if "backbone" in key and len(shape) == 2]
    assert layers
    assert all(min(shape) <= 16 for shape in layers)


def test_its_card_says_what_it_was_trained_on_and_how_good_it_is():
    card = load_card("vit-tiny")
    assert card.base.name == BACKBONE
    assert "BIQ2021" in card.training["data"]
    assert card.training["recipe"]["method"]["kind"] == "qfm"
    figures = {(row.subset, row.metric): row.value for row in card.results}
    assert figures["whole", "srcc"] > 0.85
    assert card.reference_statistics is not None


def test_photos_are_good_and_blurred_ones_are_worse(model):
    photo = read_image(Path(skimage.__file__).parent / "data" / "chelsea.png")
    scores = [
        model.score(distort_tensor(photo, "gaussian blur", level)).value for level in (1, 3, 5)
    ]
    assert scores == sorted(scores, reverse=True)
    assert model.score(photo).value > scores[-1] + 10


def test_without_the_public_weights_one_sentence_says_how_to_get_them(tmp_path):
    photo = Path(skimage.__file__).parent / "data" / "chelsea.png"
    environment = {k: v for k, v in os.environ.items() if k != "QFM_BACKBONE_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", "qfm_iqm", "score", photo, "--model", "vit-tiny"],
        env=environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "QFM_BACKBONE_DIR" in sentence
