"""torch as a runtime: on any of its devices, in fp32 or bf16, compiled or as it is."""

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
    """A device by torch's name; None takes a GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


class TorchRuntime(Runtime):
    """A quality model in torch.

    Args:
        model: moved to `device`, set to evaluation.
        device: torch's name; None takes a GPU if there is one.
        precision: "fp32" or "bf16". In bf16 the weights stay as they are and matrix products are
            computed in half the bits; the scale back to label units is always fp32.
        compiled: whether to let torch compile the network for batches of one size, which takes a
            minute and pays for many images.
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
        """What it was made from: what torch compiled cannot be pickled."""
        options: dict[str, Any] = {"device": self.device, "precision": self.precision}
        compiled = self._compiled is not None
        return partial(TorchRuntime, self.model, compiled=compiled, **options), ()

    @torch.inference_mode()
    def run(self, crops: Sequence[Crop]) -> Doubles:
        """See `Runtime.run`; takes frozen features (B, N, D) in place of crops."""
        if self._process != os.getpid() and (self._compiled or self.device.type != "cpu"):
            raise forked("torch, compiled or on a GPU,")
        keep_forks_able()
        return np.concatenate([self._scores(alike) for alike in of_one_shape(crops, len(crops))])

    def _scores(self, crops: Sequence[Crop]) -> Doubles:
        """Scores (B,) of crops of one shape."""
        # In memory that a GPU can fetch from by itself, where there is one; and bytes as bytes:
        # turning them into floats here would take longer than the network takes there.
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
        """Scores (B,) of crops (B, 3, S, S) in [0, 1] that lie on the runtime's device."""
        crops_BCSS = crops_BCSS.to(self.model.network.scale.mean.dtype)
        if self._compiled is None:
            return self._forward(crops_BCSS)
        # One size of batch is one compilation: a last, smaller batch is filled up.
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
