"""Averages of weights: what is validated and kept in the place of the last step's."""

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


@torch.no_grad()
def interpolated(start: QualityModel, end: QualityModel, share: float) -> QualityModel:
    """The model between two, whose weights are share * start + (1 - share) * end.

    What fine-tuning gains in one way it may lose in another; a mean of the weights before and after
    can be better than both (Wortsman et al., CVPR 2022).

    Args:
        start: of the same network.
        end: whose card is kept, and whose buffers that are no floats.
        share: of `start`, 0 to 1.
    """
    model = QualityModel(copy.deepcopy(end.network), end.card)
    first = start.network.state_dict()
    for key, weights in model.network.state_dict().items():
        if weights.is_floating_point():
            weights.lerp_(first[key], share)
    return model.requires_grad_(False)
