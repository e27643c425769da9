"""Loads a model by name into a runtime.

torch runs a model folder; an exported folder is run by its runtime. A model folder may contain
exports as `onnx/` or `openvino/`, which on a CPU are used instead of torch, because torch loads
slowly. If another runtime is requested, the model is exported once and cached.
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

Loading an export needs the first module; writing one needs all.
"""


def as_runtime(model: QualityModel | Runtime | str, device: str | torch.device | None) -> Runtime:
    """The runtime of a model: itself if already loaded, torch for a model, or loaded by a name.

    Raises:
        TypeError: `model` is none of these.
    """
    if isinstance(model, Runtime):
        return model
    if isinstance(model, str):
        return load_runtime(model, device=None if device is None else str(device))
    # Imported here so that exported models are scored without torch.
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
        name: a packaged model, a model folder, an exported folder, or hub:owner/name.
        runtime: "torch", "onnx" or "openvino"; None takes torch, or without a GPU an export in the
            folder; "auto" also converts a folder without an export for the fastest installed
            runtime.
        precision: "fp32", "bf16" (torch), or that of the exported folder; None takes the folder's
            precision.
        device: device for torch.
        compiled: compile with torch, see `TorchRuntime`.
        say: called with a message before a slow step; by default it does nothing.

    Raises:
        ModelError: there is no such model, or it is damaged.
        QFMError: the options are incompatible.

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
                "write one with qfm export --precision int8, and name its folder with --model."
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
    """Refuses options that only torch supports."""
    if device is not None or compiled:
        what = "choose a device" if device is not None else "compile a network"
        raise QFMError(f"Only torch can {what}, but {runtime} computes this model on the CPU.")


def _torch(
    name: str | os.PathLike[str], precision: str | None, device: str | None, compiled: bool
) -> Runtime:
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime

    wanted: Precision = "bf16" if precision == "bf16" else "fp32"
    return TorchRuntime(load_model(name), device=device, precision=wanted, compiled=compiled)


def _fastest(folder: Path, *, convert: bool) -> str:
    """The fastest runtime that can load a model folder or, with `convert`, its conversion."""
    for name, modules in _NEEDED.items():
        if _within(folder, name) is not None and _installed(modules[:1]):
            return name
    able = (name for name, modules in _NEEDED.items() if convert and _installed(modules))
    return next(able, "torch")


def _installed(modules: Iterable[str]) -> bool:
    return all(find_spec(module) for module in modules)


def _int8(folder: Path, runtime: str | None) -> Path | None:
    """A model's int8 export for a runtime, or for the fastest installed one."""
    for name in _NEEDED if runtime in (None, "auto") else (str(runtime),):
        kept = _within(folder, name, "int8")
        if kept is not None and (runtime == name or _installed(_NEEDED[name][:1])):
            return kept
    return None


def _within(folder: Path, runtime: str, precision: str = "fp32") -> Path | None:
    """The export for a runtime in a model folder, if it has the same weights."""
    kept = folder / export_name(runtime, precision)
    if not is_exported(kept):
        return None
    ours, theirs = (read_card(place / CARD_FILE).weights_sha256 for place in (folder, kept))
    return kept if ours == theirs else None


def _has_gpu() -> bool:
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
        return False  # without a driver there is no need to import torch, which is slow
    import torch

    return torch.cuda.is_available()


def cache_folder() -> Path:
    """The cache folder of converted models: `QFM_CACHE_DIR`, or in the user's cache."""
    named = os.environ.get(CACHE_DIR)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qfm-iqm"


def _cached(
    folder: Path, name: str | os.PathLike[str], runtime: str, say: Callable[[str], object]
) -> Path:
    """The fp32 export of a model for a runtime; written to the cache if missing."""
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
        pass  # damaged or from another version: export again
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.export import export

    say(f"Converting {card.name} for {runtime} once; the result is kept in {kept}.")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        export(load_model(name), kept, "onnx" if runtime == "onnx" else "openvino")
    except OSError as error:
        raise QFMError(f"The cache {kept.parent} cannot be written: {error.strerror}.") from error
    return kept
