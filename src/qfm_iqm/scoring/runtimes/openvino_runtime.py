"""OpenVINO, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qfm_iqm.network.card import ModelCard
from qfm_iqm.scoring.runtimes.base import Crop, Name, Precision, Runtime, stacked, threads


class OpenvinoRuntime(Runtime):
    """A network exported to OpenVINO's format.

    Args:
        card: the model's.
        file: the network.
        precision: in which it was exported.
        weights: see `Runtime`.
    """

    name: ClassVar[Name] = "openvino"

    def __init__(self, card: ModelCard, file: Path, precision: Precision, weights: str) -> None:
        import openvino

        super().__init__(card, precision, weights)
        options = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
            "INFERENCE_NUM_THREADS": threads(),
            # Else it computes in bf16 where the processor has it, whatever was asked for.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._network = core.compile_model(core.read_model(file), "CPU", options)

    def run(self, crops: Sequence[Crop]) -> npt.NDArray[np.float64]:
        """See `Runtime.run`."""
        answer = self._network([stacked(crops)], share_inputs=True)
        return np.array(answer[0], np.float64)
