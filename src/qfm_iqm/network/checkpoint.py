"""The model folder: `model.safetensors` + `card.json`, written whole and read strictly.

Design choices:
* Nothing is unpickled, nothing is fetched unless the name starts with `hub:`.
* The card holds the weights' SHA-256: a damaged or exchanged file is noticed.
* Weights may be stored in half precision; they are always computed in full.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib import metadata
from pathlib import Path
from textwrap import shorten

import torch
from safetensors.torch import save
from torch import Tensor

from qfm_iqm.errors import ModelError
from qfm_iqm.network.adapters import merged
from qfm_iqm.network.card import read_card
from qfm_iqm.network.finding import CARD_FILE, WEIGHTS_FILE, find_model
from qfm_iqm.network.model import QualityModel
from qfm_iqm.network.quality import QualityNetwork
from qfm_iqm.network.weights import read_safetensors


def save_model(
    model: QualityModel, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a model folder; an interruption leaves no half-written file.

    Args:
        model: what to save, adapters merged; its card is completed with the weights' hash and the
            version.
        folder: made if it is not there; an earlier model in it is replaced.
        dtype: precision of the floating-point weights in the file.
    """
    state = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype)
        for key, value in merged(model.network.state_dict()).items()
    }
    content = save({key: value.contiguous() for key, value in state.items()})
    card = model.card.model_copy(
        update={
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "version": metadata.version("qfm-iqm"),
        }
    )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    card_content = (card.model_dump_json(indent=2) + "\n").encode()
    _replace({target / WEIGHTS_FILE: content, target / CARD_FILE: card_content})


def load_model(name: str | os.PathLike[str] = "default") -> QualityModel:
    """Loads a model, ready to score.

    Args:
        name: the name of a model in the package ("default"), a model folder, or
            `hub:owner/name` for one on the Hugging Face hub (the only case that uses a network).

    Raises:
        ModelError: no such model; a missing, damaged or later card; weights that are missing,
            damaged, or not the card's.
    """
    folder = find_model(os.fspath(name))
    card = read_card(folder / CARD_FILE)
    weights = folder / WEIGHTS_FILE
    state = read_safetensors(weights)
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if card.weights_sha256 and found != card.weights_sha256:
        raise ModelError(
            f"{weights} is not the file its card describes (SHA-256 {found[:12]}..., the card says "
            f"{card.weights_sha256[:12]}...): it is damaged or was exchanged."
        )
    network = QualityNetwork(**card.network.model_dump())
    _load_strictly(network, state, weights)
    return QualityModel(network, card).eval()


def _load_strictly(network: QualityNetwork, state: dict[str, Tensor], source: Path) -> None:
    """Copies `state` into `network`; every key and shape must be the network's own."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = shorten(str(error).split(":", 1)[-1], 400, placeholder=" ...")
        raise ModelError(f"{source} does not hold the network of its card: {reason}") from error


def _replace(contents: dict[Path, bytes]) -> None:
    """Writes all of the files beside their places first, and only then moves them there."""
    partial: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                partial[path] = Path(file.name)
                file.write(content)
        for path, written in partial.items():
            written.chmod(0o644)
            written.replace(path)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)
