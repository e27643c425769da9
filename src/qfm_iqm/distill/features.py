"""FeatureDistillation: a teacher's tokens as targets of a student's (Romero et al., FitNets, 2015).

    L_features = mean smoothL1(W t_student + b, (t_teacher - mu) / sigma)

A score is one number to learn from a crop; the teacher's tokens are thousands. t are patch tokens,
the teacher's averaged to the student's grid, mu and sigma its mean and deviation in each channel;
W and b belong to training and are no part of the student.

Shapes: B crops, N patch tokens of a G x G grid, D token width, R rows of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qfm_iqm.errors import TableError

_SURVEYED = 2048  # rows of a table that mean and deviation are taken from


def grid_of(tokens_BND: Tensor, side: int) -> Tensor:
    """Patch tokens averaged to a smaller grid.

    Args:
        tokens_BND: tokens (B, 1 + N, D), class token first.
        side: G of the wanted grid.

    Returns:
        (B, G * G, D), row by row.

    Raises:
        TableError: the tokens are no square grid that `side` divides.
    """
    patches_BDN = tokens_BND[:, 1:].mT
    own = round(patches_BDN.shape[-1] ** 0.5)
    if own * own != patches_BDN.shape[-1] or own % side:
        raise TableError(
            f"The teacher's {patches_BDN.shape[-1]} tokens cannot be averaged to {side} x {side}: "
            "ask for a grid that divides its own."
        )
    square_BDGG = functional.avg_pool2d(patches_BDN.unflatten(-1, (own, own)), own // side)
    return square_BDGG.flatten(2).mT


class TeacherTokens:
    """The tokens of a table of pseudo-labels, in a file of float16 beside it.

    Args:
        path: the file: R x N x D numbers, little-endian.
        tokens: N.
        width: D.
        rows: R.

    Raises:
        TableError: the file is not there, or not of that size.
    """

    def __init__(self, path: Path, *, tokens: int, width: int, rows: int) -> None:
        self._side = round(tokens**0.5)
        try:
            self._all = np.memmap(path, "<f2", "r", shape=(rows, tokens, width))
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise TableError(f"The teacher's tokens {path} cannot be read: {error}") from error
        if size != self._all.nbytes:
            raise TableError(f"The teacher's tokens {path} are not those of the table beside them.")
        self.mean = torch.zeros(width)
        self.std = torch.ones(width)

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return self._all.shape[1], self._all.shape[2]

    def survey(self) -> Tensor:
        """Tokens (n, D) of evenly spread rows, in float32."""
        rows = np.unique(np.linspace(0, len(self._all) - 1, _SURVEYED).astype(int))
        return torch.from_numpy(self._all[rows].astype(np.float32)).flatten(0, 1)

    def get(self, row: int, *, flip: bool = False) -> Tensor:
        """Standardised tokens (N, D) of a row's crop, or of its mirror image."""
        tokens_ND = torch.from_numpy(self._all[row].astype(np.float32))
        if flip:
            tokens_ND = tokens_ND.unflatten(0, (self._side, -1)).flip(1).flatten(0, 1)
        return (tokens_ND - self.mean) / self.std


def standardise(tables: Sequence[TeacherTokens]) -> None:
    """Gives tables of one teacher a common mean and deviation in each channel.

    Raises:
        TableError: they are not of one shape.
    """
    if len({table.shape for table in tables}) > 1:
        raise TableError("The tables of pseudo-labels hold tokens of different teachers or grids.")
    surveyed = torch.cat([table.survey() for table in tables])
    mean, std = surveyed.mean(0), surveyed.std(0).clamp(min=1e-6)
    for table in tables:
        table.mean, table.std = mean, std


class FeatureDistillation(nn.Module):
    """The loss, and the projection it needs.

    Args:
        width: D of the student's tokens.
        teacher_width: D of the teacher's.
    """

    def __init__(self, width: int, teacher_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, teacher_width)

    def forward(self, tokens_BND: Tensor, teacher_tokens_BND: Tensor) -> Tensor:
        """The mean loss over the crops whose teacher tokens are known.

        Args:
            tokens_BND: the student's tokens (B, 1 + N, D), class token first.
            teacher_tokens_BND: the teacher's, standardised (B, N, D'); NaN for crops without.
        """
        known_B = teacher_tokens_BND[:, 0, 0].isfinite()
        if not known_B.any():
            return tokens_BND.new_zeros(())
        projected_BND = self.project(tokens_BND[known_B, 1:])
        return functional.smooth_l1_loss(projected_BND, teacher_tokens_BND[known_B])
