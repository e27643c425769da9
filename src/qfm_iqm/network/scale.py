"""Label scale: between the standard units a network learns in and the units people rated in."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelScale(nn.Module):
    """Mean and standard deviation of the training labels, kept with the weights.

    The network learns z-scored labels, which makes losses and thresholds mean the same on every
    dataset; its answers are given back in the label's own units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"the labels' standard deviation must be above zero, not {std}")
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def to_units(self, standard_B: Tensor) -> Tensor:
        """Z-scores (B,) to label units."""
        return standard_B * self.std + self.mean

    def to_standard(self, labels_B: Tensor) -> Tensor:
        """Label units (B,) to z-scores."""
        return (labels_B - self.mean) / self.std
