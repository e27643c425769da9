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


class QualityCallback(Callback):  # type: ignore[misc]  # of a package whose types are not read
    """Logs the mean quality of images that a module generates, after each validation epoch.

    Args:
        generate: called with the module, in evaluation mode and without gradients, in each process
            of the training; gives images as `Scorer.score_batch` takes them: RGB (B, 3, H, W) in
            [0, 1], for example. Take the same noise each time, and figures of epochs compare.
        model: a quality model, a loaded runtime, or a model's name.
        name: under which the mean is logged.
        every: validation epochs from one log to the next.

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
        """Generates images, and logs the mean of their scores over all processes."""
        if trainer.sanity_checking:
            return
        self._epochs += 1
        if (self._epochs - 1) % self.every:
            return
        self.metric.to(pl_module.device)  # where processes add up what they have
        with torch.no_grad():
            self.metric.update(self.generate(pl_module))
        pl_module.log(self.name, self.metric.compute().float(), rank_zero_only=True)
        self.metric.reset()
