"""Removes from tokens what distinguishes the clusters at equal quality.

Closed-form least-squares concept erasure (LEACE; Belrose et al., NeurIPS 2023). For tokens x and
the part z of the cluster that is not a linear function of the label:

    w = cov(x)^-1 cov(x, z),   x' = x - cov(x, z) w . (x - mean(x)) / (w . cov(x, z))

No linear function of x' then predicts z. Class and patch tokens have separate statistics.

Shapes: B crops, N patch tokens, D token width, M all tokens of a kind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from confounded.tasks import Integers

_RIDGE = 1e-3  # share of the mean variance, to regularize the inverse for few crops


@dataclass(frozen=True)
class Direction:
    """The direction that is removed from tokens of a kind.

    Attributes:
        mean_D: mean of the tokens.
        reads_D: linear predictor of the cluster.
        carries_D: vector that is subtracted per unit of the prediction.
    """

    mean_D: Tensor
    reads_D: Tensor
    carries_D: Tensor

    def __call__(self, tokens_BND: Tensor) -> Tensor:
        """Removes the direction from tokens."""
        read_BN1 = ((tokens_BND - self.mean_D) @ self.reads_D)[..., None]
        return tokens_BND - read_BN1 * self.carries_D


class Erased(nn.Module):
    """An encoder whose tokens do not linearly distinguish the clusters.

    Args:
        encoder: frozen encoder from rows of crops to tokens (B, 1 + N, D).
        width: token width D.
        rows: rows of the training crops.
        clusters_B: clusters of the training crops.
        labels_B: labels of the training crops.
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        rows: Integers,
        clusters_B: Tensor,
        labels_B: Tensor,
    ) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width
        unexplained_B = residual(clusters_B.double(), labels_B.double())
        tokens_BND = encoder(rows)
        self._class = direction(tokens_BND[:, 0], unexplained_B)
        patches = tokens_BND.shape[1] - 1
        self._patches = direction(
            tokens_BND[:, 1:].flatten(0, 1), unexplained_B.repeat_interleave(patches)
        )

    def forward(self, rows: Integers) -> Tensor:
        """The tokens (B, 1 + N, D) of rows."""
        tokens_BND = self.encoder(rows)
        return torch.cat([self._class(tokens_BND[:, :1]), self._patches(tokens_BND[:, 1:])], 1)


def residual(clusters_B: Tensor, labels_B: Tensor) -> Tensor:
    """The residual, with mean 0, of a linear regression of the clusters on the labels."""
    labels_B = labels_B - labels_B.mean()
    clusters_B = clusters_B - clusters_B.mean()
    return clusters_B - labels_B * (labels_B @ clusters_B) / (labels_B @ labels_B)


def direction(tokens_MD: Tensor, unexplained_M: Tensor) -> Direction:
    """The direction of tokens (M, D) that linearly predicts z (M,), which has mean 0."""
    mean_D = tokens_MD.double().mean(0)
    centered_MD = tokens_MD.double() - mean_D
    covariance_DD = centered_MD.T @ centered_MD / len(centered_MD)
    shared_D = centered_MD.T @ unexplained_M / len(centered_MD)
    ridge = _RIDGE * covariance_DD.diagonal().mean()
    covariance_DD.diagonal().add_(ridge)
    reads_D = torch.linalg.solve(covariance_DD, shared_D)
    carries_D = shared_D / (reads_D @ shared_D)
    return Direction(*(one.to(tokens_MD.dtype) for one in (mean_D, reads_D, carries_D)))
