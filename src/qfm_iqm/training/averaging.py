"""The moving average of the weights of a training: what is validated and kept in their place."""

from __future__ import annotations

import copy
from typing import Any

import torch

from qfm_iqm.model.model import QualityModel


class MovingAverage:
    """An exponential moving average of a model's weights.

    At first it is nearly a plain mean: after n steps the decay is (1 + n) / (10 + n) at most.

    Args:
        model: that is trained.
        decay: share of the average that stays at each step, late in the training.

    Attributes:
        model: with the averaged weights; its card is the trained one's.
    """

    def __init__(self, model: QualityModel, decay: float) -> None:
        self.model = QualityModel(copy.deepcopy(model.network), model.card)
        self.model.requires_grad_(False)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, model: QualityModel) -> None:
        """Takes the weights after one more step in."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        state = model.network.state_dict()
        for key, average in self.model.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(state[key], 1 - decay)
            else:
                average.copy_(state[key])

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"network": self.model.network.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier state."""
        self.model.network.load_state_dict(state["network"])
        self._steps = state["steps"]
