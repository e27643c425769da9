"""Builds the model that a recipe trains: the network with its initial weights, and the card."""

import json
import os
from typing import Any

import torch

from qfm_iqm.errors import ModelError, RecipeError
from qfm_iqm.image.memory_budget import available
from qfm_iqm.method.memory_bank import memory_bytes
from qfm_iqm.model.adapters import add_adapters
from qfm_iqm.model.backbone import Encoder
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.folder import load_card, load_model
from qfm_iqm.model.locate import is_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.weights import PACKAGED, backbone_state
from qfm_iqm.training.augmentation import Augmentation
from qfm_iqm.training.data import TrainingData
from qfm_iqm.training.degradations import read_cells
from qfm_iqm.training.feature_cache import FeatureCache
from qfm_iqm.training.recipe import Recipe
from qfm_iqm.training.recipe_schema import FINISHING
from qfm_iqm.training.reporting import in_bytes


def on_cpu(recipe: Recipe) -> bool:
    """Whether networks run on the CPU: the recipe says so, or there is no accelerator.

    Processes on CPUs find each other only if accelerate is told.
    """
    return recipe.train.device == "cpu" or not torch.accelerator.is_available()


def build_model(recipe: Recipe, data: TrainingData) -> QualityModel:
    """The untrained model of a recipe; draws from torch's random generator.

    Raises:
        ModelError: the backbone or its weights are not available, or it cannot be tuned as the
            recipe says.
    """
    section, weights = recipe.network, recipe.backbone.weights
    whole = weights is not None and is_model(weights)
    network = QualityNetwork(
        recipe.backbone.name,
        crop=section.crop,
        width=section.width,
        decoder=section.decoder,
        heads=section.heads,
        panel=section.panel,
        label_mean=data.label_mean,
        label_std=data.label_std,
        backbone_state=None if whole else backbone_state(weights, recipe.backbone.name),
    )
    if whole and weights is not None:
        start_from(network, weights)
    freeze(network, recipe)
    if recipe.backbone.tune == "adapters":
        add_adapters(network.encoder.backbone, recipe.backbone.rank)
    return QualityModel(network, _card(recipe, data, network))


def start_from(network: QualityNetwork, name: str) -> None:
    """Copies encoder and decoder of another model; the label scale stays that of the data.

    Args:
        network: the recipe's network.
        name: name of a packaged model, or a model's folder.

    Raises:
        ModelError: the networks differ.
    """
    start = load_model(name).network
    wanted, found = start.config.model_dump(), network.config.model_dump()
    if _shapes(start.encoder) == _shapes(network.encoder):  # a backbone for crops of any size
        found["crop"] = wanted["crop"]
    keys = {key: f"network.{key}" for key in wanted} | {"backbone": "backbone.name"}
    other = [f"{keys[key]} = {wanted[key]!r}" for key in wanted if wanted[key] != found[key]]
    if other:
        raise ModelError(
            f"backbone.weights = '{name}' starts from that model, so the recipe must set "
            f"{', '.join(other)}."
        )
    network.encoder.load_state_dict(start.encoder.state_dict())
    network.decoder.load_state_dict(start.decoder.state_dict())


def _shapes(encoder: Encoder) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in encoder.state_dict().items()}


def freeze(network: QualityNetwork, recipe: Recipe) -> None:
    """Freezes the part of the backbone that a recipe does not train.

    Raises:
        ModelError: the backbone has no such part.
    """
    if recipe.backbone.tune == "none":
        network.encoder.freeze()
    elif recipe.backbone.frozen_blocks is not None:
        network.encoder.freeze(recipe.backbone.frozen_blocks)


def build_augmentation(recipe: Recipe) -> Augmentation | None:
    """The recipe's augmentation of whole photos; None if it cuts random crops.

    Raises:
        TableError: the table of opinions of degradations cannot be used.
    """
    config = recipe.augment
    if config is None:
        return None
    cells = None if config.cells is None else read_cells(recipe.table(config.cells))
    return Augmentation(config, cells, recipe.training_crops, flip=recipe.train.flip)


def open_feature_cache(model: QualityModel, recipe: Recipe) -> FeatureCache | None:
    """The recipe's feature cache, for a model with a frozen part; None without one."""
    config = recipe.train
    if config.feature_cache is None:
        return None
    assert config.fixed_crops is not None
    return FeatureCache(
        config.feature_cache, model, fixed_crops=config.fixed_crops, flip=config.flip
    )


@torch.no_grad()
def check_memory(recipe: Recipe, network: QualityNetwork, device: torch.device) -> int:
    """Bytes that a recipe's memory bank takes on a device when full; 0 without one.

    Raises:
        RecipeError: more than is free, or the backbone does not take the crops.
    """
    if recipe.method.kind == "baseline" and recipe.train.crop is None:
        return 0
    crop = recipe.training_crops.crop
    try:
        _, tokens, width = network.eval().encode(torch.zeros(1, 3, crop, crop)).shape
    except AssertionError as error:
        raise RecipeError(
            f"The backbone '{recipe.backbone.name}' takes only crops of {recipe.network.crop} "
            f"pixels: leave train.crop = {crop} out."
        ) from error
    network.train()
    if recipe.method.kind == "baseline":
        return 0
    needed = memory_bytes(recipe.method.memory, tokens, width)
    free = _free_memory(device)
    if needed > free:
        raise RecipeError(
            f"method.memory = {recipe.method.memory} needs {in_bytes(needed)}, but "
            f"{in_bytes(free)} are free: give it fewer entries."
        )
    return needed


def _free_memory(device: torch.device) -> int:
    """Free bytes for each training process: the GPU's, or its share of the machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _card(recipe: Recipe, data: TrainingData, network: QualityNetwork) -> ModelCard:
    """The card with everything known before training."""
    splits = ("train", "validation", "test")
    return ModelCard(
        name=recipe.model.name,
        description=recipe.model.description,
        license=recipe.model.license,
        network=network.config,
        preprocessing=recipe.network.preprocessing,
        label=recipe.data.label,
        training={
            "data": recipe.data.name,
            "terms": recipe.data.terms,
            **_origin(recipe.backbone.weights),
            "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "images": {split: len(data.split.names(split)) for split in splits},
            "samples": data.supervised + data.pairs,
            "unlabeled": data.unlabeled,
            "split_rule": data.split.rule,
            "split_sha256": data.split.sha256,
            "recipe": _told(recipe),
        },
    )


def _told(recipe: Recipe) -> dict[str, Any]:
    """The recipe for the card, without paths on the training machine."""
    places: Any = {
        "data": {"root", "split_file"},
        "model": {"folder"},
        "backbone": {"weights"},
        "distillation": {"unlabeled", "teacher"},
        "train": {"feature_cache"},
        "augment": {"cells"},
        **dict.fromkeys(("teachers", "pseudo_labels", *FINISHING), True),
    }
    told: dict[str, Any] = json.loads(recipe.model_dump_json(exclude=places))
    if recipe.teachers:
        told["teachers"] = {
            name: "a model" if teacher.recipe is None else _told(teacher.recipe)
            for name, teacher in recipe.teachers.items()
        }
    if recipe.pseudo_labels:
        told["pseudo_labels"] = {
            name: {"teacher": table.teacher, "images": table.images.name}
            for name, table in recipe.pseudo_labels.items()
        }
    return told


def _origin(weights: str | None) -> dict[str, str]:
    """The origin of the initial weights, without their path."""
    if weights is not None and is_model(weights):
        card = load_card(weights)
        # A model that starts from another has its backbone weights.
        backbone = card.training.get("backbone_weights", "pretrained")
        start = f"{card.name}, weights {card.weights_sha256}"
        return {"backbone_weights": backbone, "started_from": start}
    if weights in PACKAGED:
        packaged = PACKAGED[weights]
        source = f"package {weights} ({packaged.terms}), SHA-256 {packaged.sha256}"
        return {"backbone_weights": source}
    return {"backbone_weights": "random" if weights == "random" else "pretrained"}
