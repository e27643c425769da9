"""The objective: regression on the labels plus, with QFM, consistency under semantic noise.

    L = smoothL1(q, y) + w_qcc * ramp * L_qcc          (METHOD section 8, without DLE)

One module whose forward is a whole training step, so that data-parallel wrappers see every use
of the network's parameters. Losses are taken on z-scored labels; the network itself speaks the
label's units.

Shapes: B crops, S crop size, N patch tokens, D token width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.method.config import MethodConfig
from qfm_iqm.method.consistency import consistency, perturb
from qfm_iqm.method.matching import match_quality
from qfm_iqm.method.memory import FeatureMemory
from qfm_iqm.network.quality import QualityNetwork


class Objective(nn.Module):
    """A training step: crops and labels in, loss out.

    Args:
        network: what is trained.
        config: the method.

    Attributes:
        memory: the temporary memory; None for the baseline.
    """

    def __init__(self, network: QualityNetwork, config: MethodConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.memory = FeatureMemory(config.memory) if config.kind == "qfm" else None

    def forward(
        self, crops_BCSS: Tensor, labels_B: Tensor, contents_B: Tensor, epoch: float
    ) -> dict[str, Tensor]:
        """One step.

        Args:
            crops_BCSS: RGB crops (B, 3, S, S) in [0, 1].
            labels_B: labels (B,) in their own units.
            contents_B: content ids (B,).
            epoch: epochs done so far, with fraction.

        Returns:
            `loss` with gradient, and its parts, detached, for the log.
        """
        scale = self.network.scale
        tokens_BND = self.network.encode(crops_BCSS)
        quality_B = scale.to_standard(self.network.decode(tokens_BND))
        target_B = scale.to_standard(labels_B)
        regression = functional.smooth_l1_loss(quality_B, target_B)
        if self.memory is None:
            return {"loss": regression, "regression": regression.detach()}

        # Pushed first: the freshest entries can be matched from the first step on, and a crop
        # never meets itself because its own content is excluded.
        self.memory.push(tokens_BND, target_B, contents_B)
        matches = match_quality(
            tokens_BND[:, 0], target_B, contents_B, self.memory, tau=self.config.tau
        )
        perturbed_BND = perturb(
            tokens_BND,
            self.memory.tokens_MND[matches.entries_B],
            matches.found_B,
            alpha=self.config.alpha,
        )
        perturbed_B = scale.to_standard(self.network.decode(perturbed_BND))
        qcc = consistency(perturbed_B, quality_B)
        loss = regression + self.config.w_qcc * self.ramp(epoch) * qcc
        return {
            "loss": loss,
            "regression": regression.detach(),
            "qcc": qcc.detach(),
            "fallback": matches.fallback_B.float().mean(),
            "unmatched": (~matches.found_B).float().mean(),
        }

    def ramp(self, epoch: float) -> float:
        """Share of the consistency weight that applies after `epoch` epochs."""
        return min(1.0, epoch / self.config.ramp_epochs) if self.config.ramp_epochs else 1.0
