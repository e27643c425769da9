"""The model folder, `model.safetensors` and `card.json`: atomic writing, strict reading.

Design choices:
* Nothing is unpickled; models are fetched only if the name starts with `hub:`.
* The card holds the SHA-256 of the weights, so that a damaged or replaced file is detected.
* Weights may be stored in half precision; they are always loaded as float32.
* A packed model (`model.delta`) holds only the trained change to a public backbone. The backbone
  comes from `QFM_BACKBONE_DIR` or timm's hub, and is checked by hash.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from textwrap import shorten

import torch
from safetensors.torch import save
from torch import Tensor

import qfm_iqm
from qfm_iqm.errors import ModelError, TableError
from qfm_iqm.files import replacing, sha256_of
from qfm_iqm.model.adapters import merged
from qfm_iqm.model.card import BaseWeights, ModelCard, read_card
from qfm_iqm.model.delta import content_hash, pack, unpack
from qfm_iqm.model.frozen_norm import scaled_weights
from qfm_iqm.model.locate import CARD_FILE, WEIGHTS_FILE, find_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.weights import BACKBONE_DIR, backbone_state, read_safetensors


def save_model(
    model: QualityModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a model folder; an interruption leaves no half-written file.

    Args:
        model: the model; its adapters and frozen norms are merged, and the weights' hash and the
            version are added to the card.
        folder: created if missing; an earlier model in it is replaced.
        dtype: precision of the floating-point weights in the file.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     save_model(load_model(), folder)
        ...     load_model(folder).card.name
        'default'
    """
    state = scaled_weights(merged(model.network.state_dict()))
    _write(model.card.model_copy(update={"base": None}), _content(state, dtype), Path(folder))


def save_packed(
    name: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    rank: int = 16,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a packed model: only the trained change to a public backbone (`model.delta`).

    Args:
        name: model name, as for `load_model`; its backbone's name must have timm's tag of the
            weights it was tuned from.
        folder: created if missing; an earlier model in it is replaced.
        rank: rank of the factors of each layer's change.
        dtype: precision of the weights in the file.

    Raises:
        ModelError: there is no such model, no public weights, or a change has a higher rank.
    """
    model = load_model(name)
    if model.card.training.get("backbone_weights") == "random":
        raise ModelError(
            f"'{model.card.name}' was trained from random weights: there are no public weights "
            "to add its changes to."
        )
    network, base = _upon_public_weights(model.card)
    packed = pack(model.network.state_dict(), network.state_dict(), rank)
    card = model.card.model_copy(update={"base": base})
    _write(card, _content(packed, dtype), Path(folder))


def save_with_card(
    name: str | os.PathLike[str], card: ModelCard, folder: str | os.PathLike[str]
) -> None:
    """Writes a model folder with byte-identical weights and another card.

    Exports in the model's folder are copied too: they have the same weights and are read with the
    new card.

    Args:
        name: model name, as for `load_model`.
        card: the new card.
        folder: created if missing; an earlier model in it is replaced.

    Raises:
        ModelError: there is no such model, or the folder cannot be written.
    """
    source, target = find_model(os.fspath(name)), Path(folder)
    _write(card, (source / WEIGHTS_FILE).read_bytes(), target)
    for export in (found.parent for found in source.glob(f"*/{CARD_FILE}")):
        if export.resolve() != (target / export.name).resolve():
            shutil.copytree(export, target / export.name, dirs_exist_ok=True)


def load_model(name: str | os.PathLike[str] = "default") -> QualityModel:
    """Loads a model for scoring or as part of a loss.

    The weights are float32, whatever torch's default dtype is, and need no gradients, so that an
    optimizer of an enclosing module does not train them. To continue training the model, call
    `model.network.requires_grad_().train()`.

    Args:
        name: a packaged model ("default"), a model folder, or `hub:owner/name` for a model on the
            Hugging Face hub.

    Raises:
        ModelError: there is no such model, its card is missing, damaged or of a later format, or
            its weights are missing, damaged or do not match the card.

    Examples:
        >>> load_model().card.name
        'default'
    """
    folder = find_model(os.fspath(name))
    card = read_card(folder / CARD_FILE)
    weights = folder / WEIGHTS_FILE
    if not weights.exists():
        raise ModelError(
            f"There is no weights file {weights}: if this is an export, which only scores, name "
            "the model that it was made from."
        )
    state = read_safetensors(weights)
    found = sha256_of(weights)
    if card.weights_sha256 and found != card.weights_sha256:
        raise ModelError(
            f"{weights} is not the file its card describes (SHA-256 {found[:12]}..., the card says "
            f"{card.weights_sha256[:12]}...): it is damaged or was replaced."
        )
    if card.base is None:
        network = QualityNetwork(**card.network.model_dump())
    else:
        network, _ = _upon_public_weights(card)
        state = unpack(state, network.state_dict())
    _load_strictly(network, state, weights)
    return QualityModel(network.float(), card).eval().requires_grad_(False)


def load_card(name: str | os.PathLike[str] = "default") -> ModelCard:
    """Reads only the card of a model; names are as for `load_model`.

    Raises:
        ModelError: there is no such model, or its card is missing, damaged or of a later format.
    """
    return read_card(find_model(os.fspath(name)) / CARD_FILE)


def _upon_public_weights(card: ModelCard) -> tuple[QualityNetwork, BaseWeights]:
    """A card's network with public backbone weights, checked if the card has their hash.

    Raises:
        ModelError: the weights are not available, or do not match the card.
    """
    name = card.base.name if card.base else card.network.backbone
    try:
        public = backbone_state(None, name)
    except ModelError as error:
        raise ModelError(
            f"The model '{card.name}' needs public weights that are missing (the default model "
            f"needs none): {error}"
        ) from error
    assert public is not None
    found = BaseWeights(name=name, sha256=content_hash(public))
    if card.base is not None and found != card.base:
        raise ModelError(
            f"The weights '{name}' are not those that '{card.name}' was tuned from (content "
            f"{found.sha256[:12]}..., the card says {card.base.sha256[:12]}...): remove them from "
            f"{BACKBONE_DIR} or the hub's cache, and download timm's own."
        )
    return QualityNetwork(**card.network.model_dump(), backbone_state=public), found


def _content(state: Mapping[str, Tensor], dtype: torch.dtype) -> bytes:
    """A state as the content of a safetensors file, with floating-point values in `dtype`."""
    return save(
        {
            key: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype)
            .contiguous()
            for key, value in state.items()
        }
    )  # fmt: skip


def _write(card: ModelCard, content: bytes, folder: Path) -> None:
    """Writes both files of a model folder, with hash and version added to the card."""
    card = card.model_copy(
        update={
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "version": qfm_iqm.__version__,
        }
    )
    card_content = (card.model_dump_json(indent=2) + "\n").encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace({folder / WEIGHTS_FILE: content, folder / CARD_FILE: card_content})
    except OSError as error:
        raise ModelError(f"The model cannot be written to {folder}: {error.strerror}.") from error
    except TableError as error:
        raise ModelError(f"The model cannot be written to {folder}: {error}") from error


def _load_strictly(network: QualityNetwork, state: dict[str, Tensor], source: Path) -> None:
    """Loads `state` into `network`; every key and shape must match."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = shorten(str(error).split(":", 1)[-1], 400, placeholder=" ...")
        raise ModelError(f"{source} does not hold the network of its card: {reason}") from error


def _replace(contents: dict[Path, bytes]) -> None:
    """Writes all files to temporary paths, and only then moves them into place, in order."""
    with ExitStack() as places:
        for path, content in reversed(contents.items()):  # the last entered is moved first
            places.enter_context(replacing(path)).write_bytes(content)
