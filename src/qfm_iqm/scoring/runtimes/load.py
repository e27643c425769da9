"""From a model's name to a loaded runtime.

A model folder is computed by torch, an exported folder by what it was exported for. An export of
its own may lie within a model folder, as `onnx/` or `openvino/`: on a CPU that is used in place of
torch, which takes long to load. Where another runtime is asked for, the model is exported once and
kept in a cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from qfm_iqm.errors import ModelError, QFMError
from qfm_iqm.model.card import read_card
from qfm_iqm.model.locate import CARD_FILE, find_model
from qfm_iqm.scoring.runtimes.base import Precision, Runtime
from qfm_iqm.scoring.runtimes.export_folder import (
    export_name,
    is_exported,
    load_exported,
    read_info,
)

if TYPE_CHECKING:
    import torch

    from qfm_iqm.model.model import QualityModel

CACHE_DIR = "QFM_CACHE_DIR"
CHOICES = ("auto", "torch", "onnx", "openvino")
_NEEDED = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
"""The modules that each runtime needs, fastest runtime first (benchmarks/throughput.py).

The first module loads an export; all of them together write one.
"""


def as_runtime(model: QualityModel | Runtime | str, device: str | torch.device | None) -> Runtime:
    """What computes a model: a loaded runtime itself, torch for a model, or that of a name.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(model, Runtime):
        return model
    if isinstance(model, str):
        return load_runtime(model, device=None if device is None else str(device))
    # Here, not above: an exported model is scored without the networks' libraries.
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

    if not isinstance(model, QualityModel):
        kind = type(model).__name__
        raise TypeError(f"model must be a QualityModel, a loaded runtime or a name, not {kind}")
    return TorchRuntime(model, device=device)


def load_runtime(
    name: str | os.PathLike[str] = "default",
    runtime: str | None = None,
    *,
    precision: str | None = None,
    device: str | None = None,
    compiled: bool = False,
    say: Callable[[str], object] = str,
) -> Runtime:
    """Loads a model into a runtime.

    Args:
        name: of a model, a model folder, an exported folder, or hub:owner/name.
        runtime: "torch", "onnx", "openvino"; None takes torch, or without a GPU an export within
            the folder; "auto" converts a folder that has none for the fastest that is installed.
        precision: "fp32", "bf16" (torch), or that of the exported folder; None takes the
            folder's own.
        device: for torch.
        compiled: for torch, see `TorchRuntime`.
        say: told when something takes long; nobody by default.

    Raises:
        ModelError: no such model, or one that is damaged.
        QFMError: what was asked for does not go together.

    Examples:
        >>> load_runtime("default", "onnx").name
        'onnx'
    """
    if runtime not in (None, *CHOICES):
        raise QFMError(f"There is no runtime '{runtime}': choose from {', '.join(CHOICES)}.")
    folder = find_model(os.fspath(name), exports=True)
    if is_exported(folder):
        found = read_info(folder)
        if runtime not in (None, "auto", found.runtime):
            raise QFMError(f"{folder} was exported for {found.runtime}, not for {runtime}.")
        if precision not in (None, found.precision):
            raise QFMError(f"{folder} was exported in {found.precision}, not in {precision}.")
        _refuse_torchs_own(found.runtime, device, compiled)
        return load_exported(folder)
    if precision == "int8":
        _refuse_torchs_own(runtime or "int8", device, compiled)
        kept = _int8(folder, runtime)
        if kept is None:
            raise QFMError(
                f"The model '{name}' comes without an int8 network, which is calibrated on photos: "
                "write one by qfm export --precision int8, and name that folder by --model."
            )
        return load_exported(kept, read_card(folder / CARD_FILE))
    if runtime in (None, "auto"):
        plain = device is None and precision != "bf16" and not compiled and not _has_gpu()
        runtime = _fastest(folder, convert=runtime == "auto") if plain else "torch"
    if runtime == "torch":
        return _torch(name, precision, device, compiled)
    if precision not in (None, "fp32"):
        raise QFMError(f"{runtime} computes in fp32 or int8, not in {precision}.")
    _refuse_torchs_own(str(runtime), device, compiled)
    kept = _cached(folder, name, str(runtime), say)
    return load_exported(kept, read_card(folder / CARD_FILE))


def _refuse_torchs_own(runtime: str, device: str | None, compiled: bool) -> None:
    """Refuses what only torch heeds."""
    if device is not None or compiled:
        what = "A device is chosen" if device is not None else "A network is compiled"
        raise QFMError(f"{what} by torch alone, and {runtime} computes this model on the CPU.")


def _torch(
    name: str | os.PathLike[str], precision: str | None, device: str | None, compiled: bool
) -> Runtime:
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

    wanted: Precision = "bf16" if precision == "bf16" else "fp32"
    return TorchRuntime(load_model(name), device=device, precision=wanted, compiled=compiled)


def _fastest(folder: Path, *, convert: bool) -> str:
    """The fastest runtime that can load a model's folder; with `convert`, or its conversion."""
    for name, modules in _NEEDED.items():
        if _within(folder, name) is not None and _installed(modules[:1]):
            return name
    able = (name for name, modules in _NEEDED.items() if convert and _installed(modules))
    return next(able, "torch")


def _installed(modules: Iterable[str]) -> bool:
    return all(find_spec(module) for module in modules)


def _int8(folder: Path, runtime: str | None) -> Path | None:
    """The int8 network that comes with a model, for a runtime or for the fastest installed."""
    for name in _NEEDED if runtime in (None, "auto") else (str(runtime),):
        kept = _within(folder, name, "int8")
        if kept is not None and (runtime == name or _installed(_NEEDED[name][:1])):
            return kept
    return None


def _within(folder: Path, runtime: str, precision: str = "fp32") -> Path | None:
    """The export for a runtime that lies in a model folder and is of the same weights."""
    kept = folder / export_name(runtime, precision)
    if not is_exported(kept):
        return None
    ours, theirs = (read_card(place / CARD_FILE).weights_sha256 for place in (folder, kept))
    return kept if ours == theirs else None


def _has_gpu() -> bool:
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
        return False  # without a driver there is nothing to ask torch, which takes long to load
    import torch

    return torch.cuda.is_available()


def cache_folder() -> Path:
    """Where converted models are kept: `QFM_CACHE_DIR`, or the user's cache."""
    named = os.environ.get(CACHE_DIR)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qfm-iqm"


def _cached(
    folder: Path, name: str | os.PathLike[str], runtime: str, say: Callable[[str], object]
) -> Path:
    """The model in fp32 for a runtime, exported if it is not there."""
    card = read_card(folder / CARD_FILE)
    within = _within(folder, runtime)
    if within is not None:
        return within
    weights = card.weights_sha256
    kept = cache_folder() / f"{card.name}-{weights[:16]}-{runtime}"
    try:
        if is_exported(kept) and read_card(kept / CARD_FILE) == card and read_info(kept):
            return kept
    except ModelError:
        pass  # damaged or of another version: written anew
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.export import export

    say(f"Converting {card.name} for {runtime}, once; it is kept in {kept}.")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        export(load_model(name), kept, "onnx" if runtime == "onnx" else "openvino")
    except OSError as error:
        raise QFMError(f"The cache {kept.parent} cannot be written: {error.strerror}.") from error
    return kept
