"""ONNX Runtime, on a CPU or on CUDA where its package has that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qfm_iqm.network.card import ModelCard
from qfm_iqm.scoring.runtimes.base import Crop, Name, Precision, Runtime, stacked, threads

INPUT, OUTPUT = "crops", "scores"


class OnnxRuntime(Runtime):
    """A network exported to ONNX.

    Args:
        card: the model's.
        file: the network.
        precision: in which it was exported.
        weights: see `Runtime`.
    """

    name: ClassVar[Name] = "onnx"

    def __init__(self, card: ModelCard, file: Path, precision: Precision, weights: str) -> None:
        import onnxruntime

        super().__init__(card, precision, weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        # Threads that wait for the next batch must not take the cores from those that read images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self._session = onnxruntime.InferenceSession(str(file), options, providers=providers)

    def run(self, crops: Sequence[Crop]) -> npt.NDArray[np.float64]:
        """See `Runtime.run`."""
        (scores_B,) = self._session.run([OUTPUT], {INPUT: stacked(crops)})
        return np.asarray(scores_B, np.float64)
