"""ONNX Runtime, on a CPU, or on CUDA if its package supports that."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from qfm_iqm.arrays import Floats
from qfm_iqm.errors import ModelError
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.locate import WEIGHTS_FILE
from qfm_iqm.scoring.runtimes.base import Name, PartedRuntime, Precision

INPUT, OUTPUT = "crops", "scores"
SHARED = "model:"  # prefix of the names of weights that are in the model's file


class OnnxRuntime(PartedRuntime):
    """A network exported to ONNX; other arguments are those of `Runtime`.

    Args:
        file: file of the network.
        shared: names of the weights that are in the model's file in the parent folder.
    """

    name: ClassVar[Name] = "onnx"

    def __init__(
        self,
        card: ModelCard,
        file: Path,
        precision: Precision,
        weights: str,
        shared: Sequence[str] = (),
    ) -> None:
        self._file = file
        self._shared = shared
        super().__init__(card, precision, weights)
        if "CUDAExecutionProvider" in self._session.get_providers():
            self.part = self.batch = 256

    def open(self) -> None:
        """See `PartedRuntime.open`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors
        if not has_vnni():  # sums of int8 products would saturate; exact ones take twice the time
            options.add_session_config_entry("session.x64quantprecision", "1")
        values = _shared_weights(self._file, self.weights, self._shared)  # keep until loaded
        options.add_external_initializers(list(values), list(values.values()))
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(str(self._file), options, providers=providers)

    def run_part(self, crops_BCSS: Floats) -> Floats:
        """See `PartedRuntime.run_part`."""
        (scores_B,) = self._session.run([OUTPUT], {INPUT: crops_BCSS})
        return np.asarray(scores_B)


def has_vnni() -> bool:
    """Whether the CPU sums int8 products in 32 bits; if unknown, no. Older x86 CPUs use 16."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux
        return False


def _shared_weights(file: Path, sha256: str, names: Sequence[str]) -> dict[str, Any]:
    """Loads the weights that a network shares with its model.

    Raises:
        ModelError: the model's file is missing, or is not the one that the network belongs to.
    """
    if not names:
        return {}
    import onnxruntime
    from safetensors.numpy import load

    place = file.parent.parent / WEIGHTS_FILE
    content = place.read_bytes() if place.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{place} is missing, or is not the file that {file} belongs to.")
    weights = load(content)
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    return {name: value(weights[name.removeprefix(SHARED)]) for name in names}
