"""The torch runtime: any device, fp32 or bf16, optionally compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from qfm_iqm.arrays import Doubles
from qfm_iqm.model.forking import keep_forks_able
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes.base import Crop, Name, Precision, Runtime, fill, forked, of_one_shape


def chosen_device(device: str | torch.device | None) -> torch.device:
    """A device by its torch name; None takes a GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


class TorchRuntime(Runtime):
    """A quality model in torch.

    Args:
        model: the model; moved to `device` and put in evaluation mode.
        device: a torch device name; None takes a GPU if there is one.
        precision: "fp32" or "bf16". bf16 is autocast: the weights are not changed, and the scale to
            label units is always fp32.
        compiled: compile the network for batches of one size, which takes a minute and pays off for
            many images.
    """

    name: ClassVar[Name] = "torch"

    def __init__(
        self,
        model: QualityModel,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        compiled: bool = False,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"torch computes in fp32 or bf16, not in {precision}")
        super().__init__(model.card, precision, model.card.weights_sha256)
        self.device = chosen_device(device)
        self.batch = 32 if self.device.type == "cpu" else 256
        self.model = model.to(self.device).eval()
        self._compiled: Any = torch.compile(self._forward) if compiled else None
        self._size = 0
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Callable[[], TorchRuntime], tuple[()]]:
        """Pickles the constructor's arguments, because compiled code cannot be pickled."""
        options: dict[str, Any] = {"device": self.device, "precision": self.precision}
        compiled = self._compiled is not None
        return partial(TorchRuntime, self.model, compiled=compiled, **options), ()

    @torch.inference_mode()
    def run(self, crops: Sequence[Crop]) -> Doubles:
        """See `Runtime.run`; also takes frozen features (N, D) instead of crops."""
        if self._process != os.getpid() and (self._compiled or self.device.type != "cpu"):
            raise forked("torch, compiled or on a GPU,")
        keep_forks_able()
        return np.concatenate([self._scores(alike) for alike in of_one_shape(crops, len(crops))])

    def _scores(self, crops: Sequence[Crop]) -> Doubles:
        """Scores (B,) of crops of one shape."""
        # For a GPU, batches are in pinned memory, and bytes stay bytes: converting them to floats
        # on the CPU would take longer than the network on the GPU.
        pinned = self.device.type == "cuda"
        as_bytes = pinned and all(np.asarray(crop).dtype == np.uint8 for crop in crops)
        dtype = torch.uint8 if as_bytes else torch.float32
        batch_BCSS = torch.empty(len(crops), *crops[0].shape, dtype=dtype, pin_memory=pinned)
        if as_bytes:
            np.stack(crops, out=batch_BCSS.numpy())
        else:
            fill(batch_BCSS.numpy(), crops)
        batch_BCSS = batch_BCSS.to(self.device, non_blocking=True)
        scores_B = self.compute(batch_BCSS.float() / 255 if as_bytes else batch_BCSS)
        return np.asarray(scores_B.cpu().double().numpy())

    def compute(self, crops_BCSS: Tensor) -> Tensor:
        """Scores (B,) of crops (B, 3, S, S) in [0, 1] on the runtime's device."""
        crops_BCSS = crops_BCSS.to(self.model.network.scale.mean.dtype)
        if self._compiled is None:
            return self._forward(crops_BCSS)
        # Each batch size needs a compilation, so a smaller last batch is padded.
        self._size = max(self._size, len(crops_BCSS))
        missing = self._size - len(crops_BCSS)
        filled_BCSS = functional.pad(crops_BCSS, (0, 0) * (crops_BCSS.ndim - 1) + (0, missing))
        scores: Tensor = self._compiled(filled_BCSS)
        return scores[: len(crops_BCSS)]

    def _forward(self, crops_BCSS: Tensor) -> Tensor:
        network = self.model.network
        if self.precision == "fp32":
            scores: Tensor = network(crops_BCSS)
            return scores
        with torch.autocast(self.device.type, torch.bfloat16):
            standard_B = network.decoder(network.encode(crops_BCSS))
        return network.scale.to_units(standard_B.float())
