import hashlib
import json
import resource
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from qfm_iqm.errors import ModelError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.adapters import add_adapters
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.folder import load_model, save_model, save_packed, save_with_card
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.weights import backbone_state

from ..hub import load_in_process, serving_hub


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    """A copy of the tiny model, to be damaged."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_card(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    """Rewrites the weights, with a card that does not know their hash."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    change_card(folder, weights_sha256="")


def refusal(name):
    with pytest.raises(ModelError) as refused:
        load_model(name)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_a_model_folder_is_two_plain_files(build_model, tmp_path):
    model = build_model()
    save_model(model, tmp_path / "new" / "folder")
    files = content(tmp_path / "new" / "folder")
    assert files.keys() == {"card.json", "model.safetensors"}
    card = json.loads(files["card.json"])
    assert card["weights_sha256"] == hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert card["version"] == metadata.version("qfm-iqm")
    assert card["network"]["backbone"] == "test_vit"
    assert model.card.weights_sha256 == ""  # the caller's model is unchanged
    state = load_file(tmp_path / "new" / "folder" / "model.safetensors")
    assert state.keys() == model.network.state_dict().keys()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new" / "folder").iterdir()} == {
        0o644
    }


def test_a_loaded_model_is_ready_to_score(tiny_model_folder):
    model = load_model(tiny_model_folder)
    assert not model.training
    assert not model.network.training
    assert load_model(str(tiny_model_folder)).card == model.card


def test_saving_the_same_again_gives_the_same_bytes(tiny_model_folder, tmp_path):
    save_model(load_model(tiny_model_folder), tmp_path)
    assert content(tmp_path) == content(tiny_model_folder)


def test_saving_replaces_an_earlier_model(build_model, folder):
    other = build_model("test_resnet", crop=64)
    save_model(other, folder)
    assert content(folder).keys() == {"card.json", "model.safetensors"}
    assert load_model(folder).card.network.backbone == "test_resnet"


@pytest.mark.parametrize("room", [100, 20_000])  # room for no file; for only the card
def test_a_failed_save_leaves_the_old_model(build_model, folder, room):
    """The system refuses to write more than some bytes to a file, as it does on a full disk."""
    before = content(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(ModelError, match=r"model cannot be written to .*File too large"):
            save_model(build_model("test_resnet", crop=64), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(folder) == before
    assert load_model(folder).card.network.backbone == "test_vit"


def test_no_such_model(tmp_path):
    text = refusal(tmp_path / "nothing")
    assert "There is no model" in text
    assert "hub:owner/name" in text


def test_a_folder_without_card(folder):
    (folder / "card.json").unlink()
    assert "is not a model folder: it has no card.json" in refusal(folder)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "There is no weights file" in refusal(folder)


def test_a_later_card(folder):
    change_card(folder, format=99)
    assert "upgrade" in refusal(folder)


def test_truncated_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "not a complete safetensors file" in refusal(folder)


def test_one_flipped_bit(folder):
    weights = folder / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-5] ^= 1
    weights.write_bytes(damaged)
    assert "is not the file its card describes (SHA-256 " in refusal(folder)


def test_weights_of_another_model_of_the_same_shape(build_model, folder, tmp_path):
    save_model(build_model(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    assert "damaged or was replaced" in refusal(folder)


def test_weights_of_another_architecture(build_model, folder, tmp_path):
    save_model(build_model("test_resnet", crop=64), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    change_card(folder, weights_sha256="")
    text = refusal(folder)
    assert "does not hold the network of its card" in text
    assert len(text) < 1000  # not all of the hundreds of keys


def test_an_unknown_backbone(folder):
    card = json.loads((folder / "card.json").read_text())
    change_card(folder, network=card["network"] | {"backbone": "future_net"})
    assert "'future_net' is not known to timm" in refusal(folder)


def test_a_missing_key_is_named(folder):
    change_weights(folder, lambda state: state.pop("decoder.panel"))
    assert "decoder.panel" in refusal(folder)


def test_an_unexpected_key_is_named(folder):
    change_weights(folder, lambda state: state.update({"decoder.extra": torch.zeros(1)}))
    assert "decoder.extra" in refusal(folder)


def test_a_wrong_shape_is_named(folder):
    change_weights(folder, lambda state: state.update({"decoder.panel": torch.zeros(1, 5, 64)}))
    text = refusal(folder)
    assert "decoder.panel" in text
    assert "[1, 5, 64]" in text


# ---- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def hub(tiny_model_folder):
    with serving_hub(tiny_model_folder) as server:
        yield server


def test_a_model_from_the_hub_is_fetched_once(hub, tiny_model_folder, tmp_path):
    names = "hub:owner/name", "hub:owner/other"
    refused = "The hub did not provide the model 'owner/other': "
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    sha256 = json.loads((tiny_model_folder / "card.json").read_text())["weights_sha256"]

    first, second = load_in_process(*names, home=tmp_path, HF_ENDPOINT=endpoint)
    assert first == sha256
    assert second.startswith(refused)
    got = [line for line in hub.asked if line.startswith("GET /owner/name/resolve/")]
    assert sorted(line.split("/")[-1] for line in got) == ["card.json", "model.safetensors"]

    # Then the cache serves, also without a network; what it lacks is refused.
    first, second = load_in_process(*names, home=tmp_path, HF_HUB_OFFLINE="1")
    assert first == sha256
    assert second.startswith(refused)


def test_a_name_that_is_no_repository_asks_nobody():
    assert "The hub did not provide the model 'a/b/c/d'" in refusal("hub:a/b/c/d")


# ---- packed models: the trained part on a public backbone ----

PUBLIC = "test_vit.r160_in1k"


@pytest.fixture
def packed_model(tmp_path, monkeypatch):
    """A folder of "public" weights, and a model tuned from them by adapters, whole and packed."""
    for name in ("tuned", "packed"):
        (tmp_path / name).mkdir()
    torch.manual_seed(2)
    public = timm.create_model(PUBLIC.partition(".")[0]).state_dict()
    save_file(public, tmp_path / f"{PUBLIC}.safetensors")
    monkeypatch.setenv("QFM_BACKBONE_DIR", str(tmp_path))
    network = QualityNetwork(PUBLIC, crop=160, backbone_state=backbone_state(None, PUBLIC))
    add_adapters(network.encoder.backbone, 4)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn(parameter.shape)
    card = ModelCard(name="tuned", network=network.config, preprocessing=Preprocessing(crop=160))
    save_model(QualityModel(network, card), tmp_path / "tuned")
    save_packed(tmp_path / "tuned", tmp_path / "packed", rank=4)
    return tmp_path


def test_a_packed_model_is_small_and_scores_the_same(packed_model, photo_folder):
    whole, packed = (load_model(packed_model / name) for name in ("tuned", "packed"))
    sizes = [(packed_model / n / "model.safetensors").stat().st_size for n in ("tuned", "packed")]
    assert sizes[1] < 0.35 * sizes[0]
    assert packed.card.base.name == PUBLIC
    assert whole.card.base is None
    assert packed.network.state_dict().keys() == whole.network.state_dict().keys()
    photo = photo_folder / "photo_05.png"
    # Its factors are kept in half precision.
    assert packed.score(photo).value == pytest.approx(whole.score(photo).value, abs=5e-3)


def test_a_packed_model_saved_is_whole_again(packed_model, monkeypatch, photo_folder):
    packed = load_model(packed_model / "packed")
    save_model(packed, packed_model / "again")
    monkeypatch.delenv("QFM_BACKBONE_DIR")
    again = load_model(packed_model / "again")
    photo = photo_folder / "photo_05.png"
    assert again.score(photo) == packed.score(photo)


def test_without_its_backbone_a_packed_model_says_how_to_get_it(packed_model, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no hub here")

    monkeypatch.setattr("qfm_iqm.model.weights.load_state_dict_from_hf", refuse)
    (packed_model / f"{PUBLIC}.safetensors").unlink()
    text = refusal(packed_model / "packed")
    assert "the default model needs none" in text
    assert f"Put {PUBLIC}.safetensors into a folder and set QFM_BACKBONE_DIR" in text


def test_another_backbone_is_noticed(packed_model):
    path = packed_model / f"{PUBLIC}.safetensors"
    state = load_file(path)
    state["norm.weight"] = state["norm.weight"] + 1e-3
    save_file(state, path)
    assert "are not those that 'tuned' was tuned from" in refusal(packed_model / "packed")


def test_a_model_trained_whole_is_not_packed(packed_model):
    model = load_model(packed_model / "tuned")
    for parameter in model.network.encoder.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    save_model(model, packed_model / "whole")
    with pytest.raises(ModelError, match=r"choose a higher backbone\.rank"):
        save_packed(packed_model / "whole", packed_model / "none", rank=4)
    assert not (packed_model / "none").exists()


def test_another_card_keeps_the_weights_to_the_byte(folder, tmp_path):
    card = load_model(folder).card.model_copy(update={"description": "another"})
    save_with_card(folder, card, tmp_path / "new")
    assert content(tmp_path / "new")["model.safetensors"] == content(folder)["model.safetensors"]
    assert load_model(tmp_path / "new").card.description == "another"


def test_a_folder_that_cannot_be_written_is_one_sentence(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written to .*file"):
        save_with_card(folder, load_model(folder).card, tmp_path / "file")


def test_a_loaded_model_is_float32_and_takes_no_gradients(tiny_model_folder):
    expected = load_model(tiny_model_folder).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        model = load_model(tiny_model_folder)
    finally:
        torch.set_default_dtype(torch.float32)
    for key, value in model.state_dict().items():
        assert value.dtype == expected[key].dtype
        assert torch.equal(value, expected[key])
    images = torch.rand(1, 3, 48, 48, requires_grad=True)
    model(images).sum().backward()
    assert images.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())
