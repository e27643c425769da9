"""Finds a model's folder in the package, on disk or on the hub; light to import."""

from contextlib import suppress
from importlib import resources
from pathlib import Path

from qfm_iqm.errors import ModelError
from qfm_iqm.model.hub_client import asking_hub

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
HUB_PREFIX = "hub:"
# Exports that are fetched from a repository: those for the runtime of every installation.
# `runtime.json` marks a folder as an export; it is fetched last, so that it implies the others.
HUB_EXPORTS = tuple(
    tuple(f"{folder}/{file}" for file in (CARD_FILE, "model.onnx", "runtime.json"))
    for folder in ("onnx", "onnx-int8")
)


def packaged_models() -> list[str]:
    """Names of the models in the package."""
    folder = resources.files("qfm_iqm") / "pretrained"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / CARD_FILE).is_file())


def is_model(name: str) -> bool:
    """Whether a name or path is a model in the package or a model folder on disk."""
    return name in packaged_models() or (Path(name) / CARD_FILE).is_file()


def find_model(name: str, *, exports: bool = False) -> Path:
    """The folder of a model.

    Args:
        name: a packaged model, a model folder, or `hub:owner/name`.
        exports: for a model on the hub, also fetch its exports for ONNX Runtime, if any.

    Raises:
        ModelError: there is no such model, or the download fails.
    """
    if name.startswith(HUB_PREFIX):
        return _from_hub(name.removeprefix(HUB_PREFIX), exports)
    packaged = packaged_models()
    if name in packaged:  # checked first: a local folder of that name need not be a model
        return Path(str(resources.files("qfm_iqm") / "pretrained" / name))
    if Path(name).is_dir():
        return Path(name)
    raise ModelError(
        f"There is no model '{name}': give a model folder, one of the package's models "
        f"({', '.join(packaged) or 'none installed'}), or hub:owner/name."
    )


def _from_hub(repository: str, exports: bool) -> Path:
    """Downloads a model folder, and its exports if asked, through the hub's cache."""
    from huggingface_hub import hf_hub_download  # slow to import, rarely needed
    from huggingface_hub.errors import EntryNotFoundError

    with asking_hub(f"The hub did not provide the model '{repository}'"):
        folder = Path(hf_hub_download(repository, CARD_FILE)).parent
        # The cache folder is named after the commit; all files must come from the same commit.
        hf_hub_download(repository, WEIGHTS_FILE, revision=folder.name)
        for files in HUB_EXPORTS if exports else ():
            with suppress(EntryNotFoundError):
                for file in files:
                    hf_hub_download(repository, file, revision=folder.name)
    return folder
