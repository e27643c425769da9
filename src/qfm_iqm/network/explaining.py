"""Where an image is good or bad: the decoder asked about each region alone.

The decoder turns any set of tokens into a quality. So it is asked once for each patch, with the
patch tokens of a small window around it in place of all of them:

    v_n = D([c_n, F_m for m in window(n)]),   c_n the window's mean

for backbones without class token, whose class token is that mean; a backbone's own class token
stays as it is. The encoder runs once a crop, as for the score. Crops overlap: where they do, the
map is the mean of their answers, by area. In the end the map is shifted as a whole so that its
mean is the image's score: the map says where, the score how much.

Other ways were measured beside this one (attention-weighted and gradient contributions, leaving a
patch out, overlapping and mirrored crops): benchmarks/quality_map.py.

Shapes: K crops, S crop size, N = h x h patch tokens of a crop, M = window x window of these,
D token width; R rows and C columns of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qfm_iqm.errors import ModelError
from qfm_iqm.network.quality import QualityNetwork

WINDOW = 3  # patches a side; chosen by benchmarks/quality_map.py
_ROWS = 4096  # windows that are decoded at once


@dataclass(frozen=True, eq=False)
class QualityMap:
    """Where an image is good and where it is bad.

    Attributes:
        values: float32 (R, C), a value for each patch of the whole upright image, row by row from
            the top left, in the model's label units; their mean is `score`.
        score: of the image, as `QualityModel.score` gives it.
        width: of the image in pixels, upright.
        height: of the image in pixels, upright.
    """

    values: npt.NDArray[np.float32]
    score: float
    width: int
    height: int


def local_answers(network: QualityNetwork, tokens_KND: Tensor, window: int = WINDOW) -> Tensor:
    """The quality of each patch of a crop, from the tokens of a window around it.

    At the border the window is moved inwards, so that every answer is one of as many tokens.

    Args:
        network: whose decoder is asked.
        tokens_KND: tokens (K, 1 + N, D) as `network.encode` gives them, class token first.
        window: patches a side; a larger one than the grid is the whole grid.

    Returns:
        Values (K, h, h) in label units.

    Raises:
        ModelError: the tokens are no square grid.
    """
    crops, tokens, width = tokens_KND.shape
    side = round((tokens - 1) ** 0.5)
    if side * side != tokens - 1:
        raise ModelError(
            f"A map needs a square grid of tokens, and the backbone gives {tokens - 1}."
        )
    window = min(window, side)
    grid_KhhD = tokens_KND[:, 1:].reshape(crops, side, side, width)
    places_KHHDmm = grid_KhhD.unfold(1, window, 1).unfold(2, window, 1)
    starts = (torch.arange(side) - window // 2).clamp(0, side - window).to(tokens_KND.device)
    around_KhhDmm = places_KHHDmm[:, starts][:, :, starts]
    around_QMD = around_KhhDmm.flatten(-2).mT.flatten(0, 2)
    if network.encoder.has_class_token:
        class_Q1D = tokens_KND[:, :1].repeat_interleave(side * side, 0)
    else:
        class_Q1D = around_QMD.mean(1, keepdim=True)
    asked = torch.cat([class_Q1D, around_QMD], 1)
    answers = torch.cat([network.decode(part) for part in asked.split(_ROWS)])
    return answers.reshape(crops, side, side)


def assemble(
    answers_Khh: npt.NDArray[np.float64],
    positions: Sequence[tuple[int, int]],
    crop: int,
    size: tuple[int, int],
) -> npt.NDArray[np.float64]:
    """One map out of the values of overlapping crops: the mean by area of all that cover a cell.

    Args:
        answers_Khh: values of each crop's patches.
        positions: (top, left) of each crop in pixels.
        crop: side of a crop in pixels.
        size: height and width of the image in pixels; what crops show beyond it, mirrored, does
            not count.

    Returns:
        The map (R, C): cells as large as a patch, or nearly, so that they divide the image evenly.
    """
    side = answers_Khh.shape[1]
    rows, columns = (max(1, round(length * side / crop)) for length in size)
    total, area = np.zeros((rows, columns)), np.zeros((rows, columns))
    for answers_hh, (top, left) in zip(answers_Khh, positions, strict=True):
        down_Rh = _overlaps(rows, size[0], top, side, crop)
        across_Ch = _overlaps(columns, size[1], left, side, crop)
        total += down_Rh @ answers_hh @ across_Ch.T
        area += np.outer(down_Rh.sum(1), across_Ch.sum(1))
    return total / area


def _overlaps(
    cells: int, length: int, start: int, patches: int, crop: int
) -> npt.NDArray[np.float64]:
    """How many pixels each of the cells that divide a length shares with each patch of a crop."""
    edges = np.linspace(0, length, cells + 1)
    patch_edges = start + np.linspace(0, crop, patches + 1)
    shared = np.minimum(edges[1:, None], patch_edges[None, 1:]) - np.maximum(
        edges[:-1, None], patch_edges[None, :-1]
    )
    return np.asarray(shared.clip(0), dtype=np.float64)
