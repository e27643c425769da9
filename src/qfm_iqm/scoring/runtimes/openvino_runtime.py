"""OpenVINO, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from qfm_iqm.network.card import ModelCard
from qfm_iqm.scoring.runtimes.base import Name, Precision, Runtime


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
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Else it computes in bf16 where the processor has it, whatever was asked for.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._network = core.compile_model(core.read_model(file), "CPU", options)

    def run(self, crops_BCSS: Tensor) -> Tensor:
        """See `Runtime.run`."""
        answer = self._network([crops_BCSS.numpy()], share_inputs=True)
        return torch.from_numpy(answer[0].copy())
