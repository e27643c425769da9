"""The mean quality of images as a torchmetrics metric: for a generator's training, say.

Needs the extra `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    from qfm_iqm.network.model import QualityModel
    from qfm_iqm.scoring.runtimes.base import Runtime


class QualityMetric(Metric):
    """The mean score of all images seen, on the scale that rows have.

    Sum and count are what is kept and what is added up over processes, in float64, so that the
    mean does not depend on how images were spread over batches and processes.

    Args:
        model: a quality model, a loaded runtime, or a model's name.
        batch_size: as in `Scorer`.
        options: torchmetrics' own.
    """

    is_differentiable: bool | None = False  # QualityModel itself is
    full_state_update: bool | None = False
    total: Tensor
    count: Tensor

    def __init__(
        self,
        model: QualityModel | Runtime | str = "default",
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if isinstance(model, str):
            from qfm_iqm.scoring.runtimes.loading import load_runtime

            model = load_runtime(model)
        self._scorer = Scorer(model, batch_size=batch_size)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum")
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # a constant of each model
        """The direction of the scores."""
        return self._scorer.runtime.card.label.shown.higher_is_better

    def update(self, images: Tensor | Sequence[Tensor]) -> None:
        """Scores images.

        Args:
            images: RGB in [0, 1], (B, 3, H, W), or one (3, H, W) for each image.

        Raises:
            ValueError: a tensor is of another shape, or holds no floating-point numbers.
        """
        scores_B = self._scorer.score_batch(images)
        self.total += scores_B.sum().to(self.total.device)
        self.count += len(scores_B)

    def compute(self) -> Tensor:
        """The mean score; not a number if there was no image."""
        return self.total / self.count
