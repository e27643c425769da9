"""The objective of a training step (docs/method.md, section 8).

    L = smoothL1(q, y) + w_fidelity * L_fidelity + L_pairs + w_qcc * ramp * L_qcc(supervised)
        + w_u * [ ramp * L_qcc(unlabeled) + w_pl * smoothL1(q_u, T(x_u)) ]

Supervised crops have people's labels or pseudo-labels of a table, unlabeled crops (DLE) a teacher's
scores. The module's forward is a whole training step, so that data-parallel wrappers see every use
of the network's parameters. Losses use z-scored labels; the network predicts in label units.

Shapes: B crops, S crop size, N patch tokens, D token width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.method.config import MethodConfig
from qfm_iqm.method.consistency import consistency, perturb
from qfm_iqm.method.matching import MATCHING, Matches
from qfm_iqm.method.memory_bank import MemoryBank
from qfm_iqm.model.network import QualityNetwork

_LABEL_NOISE = 0.5  # standard deviations


class Objective(nn.Module):
    """Computes the loss of a training step.

    Args:
        network: the network in training.
        config: configuration of the method.
        teachers: networks whose mean score of an unlabeled crop replaces its pseudo-label. They are
            frozen, and not among this module's parameters.
        fidelity: weight of the fidelity loss.

    Attributes:
        memory: the memory bank; None for the baseline.
        counts: crops so far, fallbacks among them, and crops without a match.
    """

    def __init__(
        self,
        network: QualityNetwork,
        config: MethodConfig,
        *,
        teachers: Sequence[QualityNetwork] = (),
        fidelity: float = 0.0,
    ) -> None:
        super().__init__()
        self.fidelity = fidelity
        self.network = network
        self.config = config
        self.memory = MemoryBank(config.memory) if config.kind == "qfm" else None
        self.counts = dict.fromkeys(("matched", "fallbacks", "unmatched"), 0)
        self._teachers = tuple(teachers)  # torch does not look for parameters in a tuple

    def forward(
        self,
        crops_BCSS: Tensor,
        labels_B: Tensor,
        contents_B: Tensor,
        epoch: float,
        *,
        supervised_B: Tensor | None = None,
        groups_B: Tensor | None = None,
        pairs_B: Tensor | None = None,
        draw: int = 0,
    ) -> dict[str, Tensor]:
        """Computes one step.

        Args:
            crops_BCSS: RGB crops (B, 3, S, S) in [0, 1].
            labels_B: labels or pseudo-labels (B,), in label units.
            contents_B: content ids (B,).
            epoch: epochs done so far, with fraction.
            supervised_B: (B,) whether a crop is supervised; None for all.
            groups_B: ids (B,) of the subsets within which qualities are compared; None for one.
            pairs_B: ids (B,) shared by the two crops of a pair, negative for others; None for no
                pairs.
            draw: seed of this step's random draws.

        Returns:
            `loss` with gradient, and its detached terms for the log; a term is missing if the batch
            has no crops for it.
        """
        config, scale = self.config, self.network.scale
        supervised_B = (
            torch.ones_like(contents_B, dtype=torch.bool) if supervised_B is None else supervised_B
        )
        if self._teachers and not supervised_B.all():
            with torch.no_grad():
                crops_UCSS = crops_BCSS[~supervised_B]
                scores_U = torch.stack([teacher(crops_UCSS) for teacher in self._teachers]).mean(0)
                labels_B = labels_B.clone()
                labels_B[~supervised_B] = scores_U.to(labels_B.dtype)
        tokens_BND = self.network.encode(crops_BCSS)
        quality_B = scale.to_standard(self.network.decode(tokens_BND))
        loss = quality_B.new_zeros(())
        terms = {}
        target_B = scale.to_standard(labels_B)
        for name, chosen_B, weight in (
            ("regression", supervised_B, 1.0),
            ("pseudo", ~supervised_B, config.w_u * config.w_pl),
        ):
            if chosen_B.any():
                regression = functional.smooth_l1_loss(quality_B[chosen_B], target_B[chosen_B])
                loss = loss + weight * regression
                terms[name] = regression.detach()
        if self.fidelity:
            groups_B = torch.zeros_like(contents_B) if groups_B is None else groups_B
            terms["fidelity"] = fidelity_loss(quality_B, target_B, groups_B)
            loss = loss + self.fidelity * terms["fidelity"]
            terms["fidelity"] = terms["fidelity"].detach()
        if pairs_B is not None and (pairs_B >= 0).any():
            first, second = _couples(pairs_B)
            paired = pairs_B[first] >= 0
            first, second = first[paired], second[paired]
            difference = functional.smooth_l1_loss(
                quality_B[first] - quality_B[second], target_B[first] - target_B[second]
            )
            loss = loss + difference
            terms["pairs"] = difference.detach()
        if self.memory is None:
            return {"loss": loss, **terms}

        # Push first, so that matching works from the first step on and sees the newest entries. A
        # crop cannot match itself: its own content is excluded.
        kept_B = {
            "supervised": supervised_B,
            "unlabeled": ~supervised_B,
            "both": torch.ones_like(supervised_B),
        }[config.noise_from]
        self.memory.push(tokens_BND[kept_B], target_B[kept_B], contents_B[kept_B])
        if not len(self.memory):  # only unlabeled crops are pushed, and none came yet
            return {"loss": loss, **terms}
        perturbed_BND, matches = self._perturbed(tokens_BND, target_B, contents_B, draw)
        self._count(matches)
        perturbed_B = scale.to_standard(self.network.decode(perturbed_BND))
        ramp = self.ramp(epoch)
        for name, chosen_B, weight in (
            ("qcc", supervised_B, config.w_qcc),
            ("qcc_unlabeled", ~supervised_B, config.w_u),
        ):
            if chosen_B.any():
                qcc = consistency(
                    perturbed_B[chosen_B],
                    quality_B[chosen_B],
                    target_B[chosen_B],
                    target=config.target,
                )
                loss = loss + weight * ramp * qcc
                terms[name] = qcc.detach()
        return {
            "loss": loss,
            **terms,
            "fallback": matches.fallback_B.float().mean(),
            "unmatched": (~matches.found_B).float().mean(),
        }

    def _count(self, matches: Matches) -> None:
        self.counts["matched"] += len(matches.found_B)
        self.counts["fallbacks"] += int(matches.fallback_B.sum())
        self.counts["unmatched"] += int((~matches.found_B).sum())

    def ramp(self, epoch: float) -> float:
        """Share of the consistency weight that applies after `epoch` epochs."""
        return min(1.0, max(0.0, epoch - self.config.start_epoch))

    def _perturbed(
        self, tokens_BND: Tensor, target_B: Tensor, contents_B: Tensor, draw: int
    ) -> tuple[Tensor, Matches]:
        """The decoder input with semantic noise added, and the matches."""
        assert self.memory is not None
        config, memory = self.config, self.memory
        matches = MATCHING[config.matching](
            tokens_BND[:, 0],
            target_B,
            contents_B,
            memory,
            tau=config.tau,
            delta=config.delta,
            top_k=config.top_k,
            generator=torch.Generator().manual_seed(draw),
        )
        perturbed_BND = perturb(
            tokens_BND,
            matches.tokens_BND,
            matches.found_B,
            alpha=config.alpha,
            tokens=config.tokens,
            renormalize=config.renormalize,
        )
        return perturbed_BND, matches


def fidelity_loss(quality_B: Tensor, target_B: Tensor, groups_B: Tensor) -> Tensor:
    """Fidelity loss between the order of predictions and of labels, within groups.

    The fidelity loss (Tsai et al., SIGIR 2007) compares the probabilities that one crop is
    preferred to another (Thurstone's model), as in UNIQUE (Zhang et al., IEEE TIP 2021):

        P = Phi(q_i - q_j),  T = Phi((y_i - y_j) / 0.5)
        L = mean over pairs of one group of 1 - sqrt(P T) - sqrt((1 - P)(1 - T))

    Probabilities are clamped to [1e-4, 1 - 1e-4]. Labels are less noisy than predictions: the noise
    of their difference is half a standard deviation. Only pairs within a group count: pairs across
    subsets would teach a shortcut, the subsets' means.

    Args:
        quality_B: predictions (B,), in standard deviations of the labels.
        target_B: labels (B,), likewise.
        groups_B: group ids (B,).
    """
    first, second = _couples(groups_B)
    if not len(first):
        return quality_B.sum() * 0
    predicted = _preferred(quality_B[first] - quality_B[second])
    labelled = _preferred((target_B[first] - target_B[second]) / _LABEL_NOISE)
    kept = (predicted * labelled).sqrt() + ((1 - predicted) * (1 - labelled)).sqrt()
    return (1 - kept).mean()


def _couples(ids_B: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of all pairs of crops with the same id."""
    first, second = torch.triu_indices(len(ids_B), len(ids_B), 1, device=ids_B.device)
    same = ids_B[first] == ids_B[second]
    return first[same], second[same]


def _preferred(difference: Tensor) -> Tensor:
    probability: Tensor = torch.special.ndtr(difference)
    return probability.clamp(1e-4, 1 - 1e-4)
