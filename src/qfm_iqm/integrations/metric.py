"""Mean image quality as a torchmetrics metric, e.g. for the training of a generator.

Needs the extra `metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from torch import Tensor
from torchmetrics import Metric

from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    from qfm_iqm.image.preprocess_torch import Pixels
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.base import Runtime


class QualityMetric(Metric):
    """Mean score of all images seen, on the scale of `ScoreRow.score`.

    The states are sum and count in float64, summed over processes, so that the mean does not depend
    on how images are spread over batches and processes.

    Args:
        model: a quality model, a loaded runtime, or a model's name.
        batch_size: as in `Scorer`.
        options: options of `torchmetrics.Metric`.

    Examples:
        >>> metric = QualityMetric("default")
        >>> metric.update(torch.rand(2, 3, 64, 64))
        >>> 0 <= metric.compute() <= 100
        tensor(True)
    """

    is_differentiable: bool | None = False  # `QualityModel` is differentiable
    full_state_update: bool | None = False
    total: Tensor
    count: Tensor
    identity: Tensor

    def __init__(
        self,
        model: QualityModel | Runtime | str = "default",
        *,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._scorer = Scorer(model, batch_size=batch_size)
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum")
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")
        # A `MetricCollection` merges metrics with equal states. Two models' first scores may be
        # equal, at the ends of the scale: this number keeps their metrics apart.
        identity = torch.tensor(uuid4().int >> 66)  # fits into 63 bits
        self.add_state("identity", identity, dist_reduce_fx="max")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # a constant of each model
        """The direction of the scores."""
        return self._scorer.runtime.card.label.shown.higher_is_better

    def update(self, images: Pixels | Iterable[Pixels]) -> None:
        """Scores images.

        Args:
            images: as in `Scorer.score_batch`.

        Raises:
            TypeError: see `Scorer.score_batch`.
            ValueError: see `Scorer.score_batch`.
        """
        scores_B = self._scorer.score_batch(images)
        # Not in place: a tensor from a reset in inference mode cannot be changed outside it.
        self.total = self.total + scores_B.sum().to(self.total.device)
        self.count = self.count + len(scores_B)

    def compute(self) -> Tensor:
        """The mean score; NaN without images."""
        return self.total / self.count
