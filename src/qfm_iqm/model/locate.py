"""Where a model's folder is: in the package, on the disk, or on the hub; light to import."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from qfm_iqm.errors import ModelError

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
HUB_PREFIX = "hub:"


def packaged_models() -> list[str]:
    """Names of the models that come with the package."""
    folder = resources.files("qfm_iqm") / "pretrained"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / CARD_FILE).is_file())


def find_model(name: str) -> Path:
    """The folder of a model, wherever it is.

    Args:
        name: the name of a model in the package, a model folder, or `hub:owner/name`.

    Raises:
        ModelError: there is none of that name, or the hub does not give it.
    """
    if name.startswith(HUB_PREFIX):
        return _from_hub(name.removeprefix(HUB_PREFIX))
    packaged = packaged_models()
    if name in packaged:  # first: somebody's folder of that name need not be a model
        return Path(str(resources.files("qfm_iqm") / "pretrained" / name))
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(
        f"There is no model '{name}': give a model folder, one of the package's models "
        f"({', '.join(packaged) or 'none installed'}), or hub:owner/name."
    )


def _from_hub(repository: str) -> Path:
    """Downloads the two files of a model folder, through the hub's own cache."""
    from huggingface_hub import hf_hub_download  # slow to import, and seldom needed

    try:
        files = [hf_hub_download(repository, file) for file in (CARD_FILE, WEIGHTS_FILE)]
    except Exception as error:  # the hub's client raises many kinds: none is ours to mend
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"The hub did not give the model '{repository}': {reason}") from error
    return Path(files[0]).parent
