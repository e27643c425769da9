"""Weight averaging: averaged weights are validated and saved instead of the last step's."""

import copy
from typing import Any

import torch

from qfm_iqm.model.model import QualityModel


class MovingAverage:
    """An exponential moving average of a model's weights.

    Early on the decay is smaller: after n steps it is at most (1 + n) / (10 + n).

    Args:
        model: the model in training.
        decay: decay of the average per step, late in training.

    Attributes:
        model: the model with the averaged weights; it shares the card of the trained model.
    """

    def __init__(self, model: QualityModel, decay: float) -> None:
        self.model = QualityModel(copy.deepcopy(model.network), model.card)
        self.model.requires_grad_(False)
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, model: QualityModel) -> None:
        """Updates the average with the weights after one more step."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        state = model.network.state_dict()
        for key, average in self.model.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(state[key], 1 - decay)
            else:
                average.copy_(state[key])

    def state_dict(self) -> dict[str, Any]:
        """The state for `load_state_dict`."""
        return {"network": self.model.network.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores an earlier state."""
        self.model.network.load_state_dict(state["network"])
        self._steps = state["steps"]


@torch.no_grad()
def interpolated(start: QualityModel, end: QualityModel, share: float) -> QualityModel:
    """The model with the weights share * start + (1 - share) * end.

    Fine-tuning may lose what the first weights could do; a mean of the weights before and after it
    can be better than both (Wortsman et al., CVPR 2022).

    Args:
        start: a model with the same network.
        end: the model whose card and non-float buffers are kept.
        share: weight of `start`, 0 to 1.
    """
    model = QualityModel(copy.deepcopy(end.network), end.card)
    first = start.network.state_dict()
    for key, weights in model.network.state_dict().items():
        if weights.is_floating_point():
            weights.lerp_(first[key], share)
    return model.requires_grad_(False)
