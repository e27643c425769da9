"""A Lightning callback that logs the quality of generated images. Needs Lightning and torchmetrics.

from qfm_iqm.integrations.lightning import QualityCallback
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from qfm_iqm.integrations.metric import QualityMetric

if TYPE_CHECKING:
    from qfm_iqm.image.preprocess_torch import Pixels
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.base import Runtime


class QualityCallback(Callback):  # type: ignore[misc]  # mypy skips Lightning
    """Logs the mean quality of images that a module generates, after validation epochs.

    Args:
        generate: called with the module, in evaluation mode and without gradients, in each training
            process; returns images for `Scorer.score_batch`, e.g. RGB (B, 3, H, W) in [0, 1]. Use
            the same noise in each call to make epochs comparable.
        model: a quality model, a loaded runtime, or a model's name.
        name: name of the logged mean.
        every: log in each `every`-th validation epoch, from the first on.

    Raises:
        ValueError: `every` is below 1.
    """

    def __init__(
        self,
        generate: Callable[[LightningModule], Pixels | Iterable[Pixels]],
        *,
        model: QualityModel | Runtime | str = "default",
        name: str = "quality",
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self.generate, self.name, self.every = generate, name, every
        self.metric = QualityMetric(model)
        self._epochs = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generates images and logs their mean score over all processes."""
        if trainer.sanity_checking:
            return
        self._epochs += 1
        if (self._epochs - 1) % self.every:
            return
        self.metric.to(pl_module.device)  # where processes sum their states
        with torch.no_grad():
            self.metric.update(self.generate(pl_module))
        pl_module.log(self.name, self.metric.compute().float(), rank_zero_only=True)
        self.metric.reset()
