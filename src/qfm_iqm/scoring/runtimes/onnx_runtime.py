"""ONNX Runtime, on a CPU or on CUDA where its package has that."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qfm_iqm.model.card import ModelCard
from qfm_iqm.scoring.runtimes.base import Name, PartedRuntime, Precision

INPUT, OUTPUT = "crops", "scores"


class OnnxRuntime(PartedRuntime):
    """A network exported to ONNX.

    Args:
        card: the model's.
        file: the network.
        precision: in which it was exported.
        weights: see `Runtime`.
    """

    name: ClassVar[Name] = "onnx"

    def __init__(self, card: ModelCard, file: Path, precision: Precision, weights: str) -> None:
        self._file = file
        super().__init__(card, precision, weights)
        if "CUDAExecutionProvider" in self._session.get_providers():
            self.part = self.batch = 256

    def open(self) -> None:
        """See `PartedRuntime.open`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(str(self._file), options, providers=providers)

    def run_part(self, crops_BCSS: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See `PartedRuntime.run_part`."""
        (scores_B,) = self._session.run([OUTPUT], {INPUT: crops_BCSS})
        return np.asarray(scores_B)
