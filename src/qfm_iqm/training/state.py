"""The state of a training run in one safetensors file, without pickle.

Tensors of nested dictionaries are stored under their path; everything else is stored as JSON in
the file's metadata. Writing replaces the earlier state atomically.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qfm_iqm.errors import ModelError, reason_of
from qfm_iqm.files import replacing

_TENSOR = "__tensor__"


def save_state(state: dict[str, Any], path: Path) -> None:
    """Writes nested dictionaries and lists of tensors and JSON values."""
    tensors: dict[str, Tensor] = {}
    tree = _take_tensors(state, "", tensors)
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"tree": json.dumps(tree)})


def load_state(path: Path) -> dict[str, Any]:
    """Reads what `save_state` wrote.

    Raises:
        ModelError: the file does not exist or is no such state.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()["tree"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        state: dict[str, Any] = _put_tensors(tree, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The training state {path} cannot be read: {reason_of(error)}."
        ) from error
    return state


def _take_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Replaces tensors by references and dictionaries by pairs: JSON keys can only be text."""
    if isinstance(value, Tensor):
        name = f"{len(tensors)}{path}"  # numbered: paths are ambiguous ("a/b"; 0 and "0")
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        items = [[key, _take_tensors(v, f"{path}/{key}", tensors)] for key, v in value.items()]
        return {"items": items}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _put_tensors(v, tensors) for key, v in value["items"]}
    if isinstance(value, list):
        return [_put_tensors(v, tensors) for v in value]
    return value


def random_state() -> dict[str, Tensor]:
    """The state of torch's generators, for random layers (dropout, stochastic depth)."""
    return {
        "cpu": torch.get_rng_state(),
        **{f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())},
    }


def restore_random_state(state: dict[str, Tensor]) -> None:
    """Restores the generators."""
    torch.set_rng_state(state["cpu"])
    cuda = [value for key, value in state.items() if key != "cpu"]  # in the devices' order
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)


class StopRequest:
    """Context manager: SIGINT and SIGTERM request a stop; a second signal stops at once.

    Attributes:
        asked: whether a stop was requested.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        try:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._ask)
        except ValueError:
            pass  # only the main thread may handle signals
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signum, signal.default_int_handler)


def heed_no_signal(_: int) -> None:
    """Makes a worker process ignore signals to the process group; it ends with its run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
