"""The interface of a runtime: crops in, scores out, and what a row says of it.

Shapes: B crops, S crop size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from qfm_iqm.network.card import ModelCard

Name = Literal["torch", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]

TOLERANCE: dict[str, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.5}
"""How far one crop's score may lie from torch's in fp32, in standard deviations of the labels.

The same for what the same runtime gives in another batch is 1e-5 in fp32.
"""


class Runtime(ABC):
    """A loaded model.

    Args:
        card: the model's.
        precision: in which it computes.
        weights: SHA-256 of the weights that it computes with; empty if they were never saved.

    Attributes:
        name: of the runtime, as rows say it.
    """

    name: ClassVar[Name]

    def __init__(self, card: ModelCard, precision: Precision, weights: str) -> None:
        self.card = card
        self.precision = precision
        self.weights = weights

    @abstractmethod
    def run(self, crops_BCSS: Tensor) -> Tensor:
        """Crops (B, 3, S, S) in [0, 1], on the CPU, to scores (B,) in label units, on the CPU."""

    def stacked(self, crops: list[Tensor]) -> Tensor:
        """Crops, uint8 or floats in [0, 1], as one batch of floats."""
        batch = torch.empty(len(crops), *crops[0].shape, pin_memory=self.pins)
        for place, crop in zip(batch, crops, strict=True):
            place.copy_(crop)
            if not crop.is_floating_point():
                place.div_(255)
        return batch

    @property
    def pins(self) -> bool:
        """Whether batches should lie in memory that a GPU can fetch from by itself."""
        return False
