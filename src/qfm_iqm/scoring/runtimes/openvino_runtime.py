"""OpenVINO, on a CPU."""

import threading
from pathlib import Path
from typing import ClassVar

import numpy as np

from qfm_iqm.arrays import Floats
from qfm_iqm.model.card import ModelCard
from qfm_iqm.scoring.runtimes.base import Name, PartedRuntime, Precision, forked, threads
from qfm_iqm.telemetry import InCI


class OpenvinoRuntime(PartedRuntime):
    """A network exported to OpenVINO's format; other arguments are those of `Runtime`.

    Args:
        file: file of the network.
    """

    name: ClassVar[Name] = "openvino"

    def __init__(self, card: ModelCard, file: Path, precision: Precision, weights: str) -> None:
        self._file = file
        super().__init__(card, precision, weights)

    def open(self) -> None:
        """See `PartedRuntime.open`."""
        if hasattr(self, "_network"):  # OpenVINO crashes when a forked network is destroyed
            raise forked("OpenVINO")
        with InCI():
            import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads(),
            "NUM_STREAMS": threads(),  # parallel parts, with one thread each
            # Otherwise it computes in bf16 if the processor supports it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._network = core.compile_model(core.read_model(self._file), "CPU", options)
        self._own = threading.local()  # one inference request per thread

    def run_part(self, crops_BCSS: Floats) -> Floats:
        """See `PartedRuntime.run_part`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._network.create_infer_request()
        answer = self._own.request.infer([crops_BCSS], share_inputs=True)
        return np.array(answer[0], np.float32)
