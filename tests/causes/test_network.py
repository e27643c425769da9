"""The packaged network: its output is finite, reproducible, and right in clear cases."""

import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.causes.network import FACTS_FILE, NETWORK_FILE, CauseNetwork, load_causes, packaged
from qfm_iqm.errors import ModelError
from qfm_iqm.image.distortions import distort
from qfm_iqm.image.views import TILE, TILES, WHOLE, Views, views_of

data = pytest.importorskip("skimage.data", reason="real photographs come with scikit-image")
PHOTOS = {name: np.ascontiguousarray(getattr(data, name)()) for name in ("astronaut", "coffee")}


def causes_of(pixels):
    small = np.asarray(Image.fromarray(pixels).resize((400, 288), Image.Resampling.BILINEAR))
    network = load_causes()
    return network.causes(network(views_of(pixels, small)))


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize(
    ("kind", "strength", "cause"),
    [
        ("gaussian blur", 3, "blur"),
        ("motion blur", 10, "blur"),
        ("jpeg", 5, "compression"),
        ("white noise", 0.01, "noise"),
        ("darken", 0.9, "exposure"),
    ],
)
def test_strong_faults_are_named(photo, kind, strength, cause):
    found = causes_of(distort(PHOTOS[photo], kind, strength))
    assert found.main == cause
    assert found.severities[cause] > 10
    assert str(found).startswith(f"{cause}, about ")


@pytest.mark.parametrize("make", [np.zeros, np.ones, "noise"])
def test_severities_of_anything_are_finite_and_not_negative(make):
    draw = np.random.default_rng(0)

    def pixels(*shape):
        if make == "noise":
            return draw.integers(0, 256, shape, dtype=np.uint8)
        return (255 * make(shape)).astype(np.uint8)

    views = Views(pixels(TILES, TILE, TILE, 3), pixels(WHOLE, WHOLE, 3))
    severities = load_causes()(views)
    assert severities.shape == (6,)
    assert np.isfinite(severities).all()
    assert (severities >= 0).all()


def test_it_is_loaded_again_in_another_process():
    network = load_causes()
    assert pickle.loads(pickle.dumps(network)).least == network.least


def test_a_damaged_network_is_refused(tmp_path):
    folder = tmp_path / "causes"
    shutil.copytree(packaged(), folder)
    content = bytearray((folder / NETWORK_FILE).read_bytes())
    content[1000] ^= 1
    (folder / NETWORK_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        CauseNetwork(folder)
    facts = json.loads((folder / FACTS_FILE).read_text())
    del facts["least"]
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="cannot be read"):
        CauseNetwork(folder)
