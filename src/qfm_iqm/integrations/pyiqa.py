"""`pyiqa.create_metric("qfm")`: importing this module registers the metric with pyiqa.

pyiqa finds the architecture through an entry point, but looks up metric names in its own list
before it reads entry points.
"""

import torch
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from pyiqa.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from qfm_iqm.errors import QFMError
from qfm_iqm.model.card import BEST
from qfm_iqm.model.folder import load_model

NAME = "qfm"


class QFM(nn.Module):
    """A quality model as a pyiqa metric: images (B, 3, H, W) in [0, 1] to scores (B, 1).

    Args:
        model: a model's name, a model folder, or hub:owner/name.

    Raises:
        QFMError: the model's scores are better when lower; pyiqa is told that higher is better.
    """

    def __init__(self, model: str = "default") -> None:
        super().__init__()
        self.model = load_model(model)
        if not self.model.card.label.shown.higher_is_better:
            raise QFMError(f"pyiqa's 'qfm' needs higher scores to be better, unlike '{model}'.")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Scores on the scale of `qfm score`: 0 to 100 if the model's labels have a range.

        With gradients enabled, as in a loss, they are not clipped to this range.
        """
        images_BCHW = images_BCHW.expand(-1, 3, -1, -1)  # pyiqa may pass gray images
        scores_B: Tensor = self.model(images_BCHW)
        if (ends := self.model.card.label.worst_and_best) is not None:
            worst, best = ends
            scores_B = BEST * (scores_B - worst) / (best - worst)
            if not torch.is_grad_enabled():
                scores_B = scores_B.clamp(0, BEST)
        return scores_B[:, None]


def register() -> None:
    """Registers the metric with pyiqa, once."""
    if NAME not in DEFAULT_CONFIGS:
        DEFAULT_CONFIGS[NAME] = {
            "metric_opts": {"type": QFM.__name__},
            "metric_mode": "NR",
            "score_range": "0, 100",
        }
        ARCH_REGISTRY.register(QFM)


register()
