"""The NSS branch of a trained model: its regression on scene statistics, fitted in one go.

The statistics of a crop never change, so they are measured once, and the rest is least squares:
kernel ridge regression on M centres drawn from the crops (Nystroem),

    min_w  sum_n v_n (q(x_n) - y_n)^2 + ridge w^T K w,   K = k(c, c)

Crops are those that cover rated images, with people's labels, and those that a teacher scored,
clean and degraded, at a smaller weight v. Encoder and decoder are left as they are: fitted to what
these leave over on photos that they know by heart, a branch would be worth little on others.

Shapes: N crops, K crops of an image, F statistics, M centres.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.distill.pseudo_labels import read_pseudo_labels
from qfm_iqm.distill.teacher import PseudoLabel
from qfm_iqm.errors import TableError
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import covering_crops, eight_bits, resize_and_pad
from qfm_iqm.model.card import ModelCard
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.nss import NSSRegressor, SceneStatistics

Progress = Callable[[Iterator[Tensor], int], Iterator[Tensor]]

RIDGE = 0.3
TEACHERS = 0.3  # weight of a crop that a teacher scored, beside one of an image that people rated
_FLOOR = 1e-3  # of a statistic's deviation
_JITTER = 1e-6  # on the diagonal, so that equal centres have a solution
_ROWS = 4096  # whose kernel is held at once


def read_crops(paths: Iterable[Path], card: ModelCard, held: Collection[str]) -> list[PseudoLabel]:
    """Crops that teachers scored, of a model's preprocessing.

    Args:
        paths: tables of pseudo-labels.
        card: the model's.
        held: names and contents of held-out images: their crops are left out.

    Raises:
        TableError: no such table, or one of crops that the model does not see.
    """
    rows: list[PseudoLabel] = []
    for path in paths:
        made = read_pseudo_labels(path)
        if made.preprocessing != card.preprocessing:
            raise TableError(
                f"The pseudo-labels {path} were made with {made.preprocessing!r}, and "
                f"'{card.name}' sees others: let a teacher of its crops score them."
            )
        rows += [row for row in made.rows if not row.shows(held)]
    return rows


def with_nss_branch(
    model: QualityModel,
    rated: RatedTable,
    root: Path,
    *,
    pseudo: Sequence[PseudoLabel] = (),
    centres: int,
    weight: float = 0.5,
    seed: int = 0,
    progress: Progress | None = None,
) -> QualityModel:
    """A model's encoder and decoder with a new NSS branch.

    Args:
        model: of which an earlier NSS branch is not kept. What its card says of its figures
            and of what its scores mean holds no more, and is left out.
        rated: images that people rated, to learn from.
        root: folder that all names are relative to.
        pseudo: crops that a teacher scored under the model's preprocessing.
        centres: M, at most as many as there are crops.
        weight: of the branch; the decoder has the rest of 1.
        seed: of the centres.
        progress: wraps what is measured of each image, given their number.

    Raises:
        TableError: no labels, labels that are all equal, or names that match no file.
        ImageError: an image cannot be read, or is not the one that a teacher scored.
    """
    if rated.mos is None or np.ptp(rated.mos) == 0:
        raise TableError(f"{rated.source} has no labels that differ: there is nothing to learn.")
    scored: dict[str, list[PseudoLabel]] = {}
    for label in pseudo:
        scored.setdefault(label.name, []).append(label)
    paths, taught = rated.paths(root), list(scored.values())
    if scored:
        paths += RatedTable(tuple(scored), source="the pseudo-labels").paths(root)
    wanted: list[list[PseudoLabel]] = [[] for _ in rated.names] + taught
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="measure") as pool:
        coming = pool.map(partial(_measured, model.card.preprocessing), paths, wanted)
        found = list(progress(coming, len(paths)) if progress else coming)
    own = [mos for mos, crops_KF in zip(rated.mos.tolist(), found, strict=False) for _ in crops_KF]
    theirs = [row.score for rows in taught for row in rows]
    scale = model.network.scale
    regressor = fit_regressor(
        torch.cat(found),
        scale.to_standard(torch.tensor(own + theirs)),
        torch.tensor([1.0] * len(own) + [TEACHERS] * len(theirs)),
        centres=centres,
        seed=seed,
    )
    config = model.card.network.model_copy(
        update={"statistics": len(regressor.weights), "statistics_weight": weight}
    )
    network = QualityNetwork(**config.model_dump())
    network.encoder.load_state_dict(model.network.encoder.state_dict())
    network.decoder.load_state_dict(model.network.decoder.state_dict())
    network.scale.load_state_dict(scale.state_dict())
    network.statistics = regressor
    told = {
        "images": len(rated),
        "pseudo_labelled_crops": len(pseudo),
        "centres": config.statistics,
        "weight": weight,
        "ridge": RIDGE,
        "teachers_weight": TEACHERS,
        "seed": seed,
    }
    training = model.card.training | {"nss_branch": told}
    card = model.card.of_new_weights(network=config, training=training)
    return QualityModel(network, card).eval()


def fit_regressor(
    statistics_NF: Tensor, target_N: Tensor, weight_N: Tensor, *, centres: int, seed: int = 0
) -> NSSRegressor:
    """Fits the regression.

    Args:
        statistics_NF: of crops.
        target_N: their qualities in standard deviations of labels.
        weight_N: how much each counts.
        centres: M, at most N.
        seed: of the centres.
    """
    statistics_NF, target_N, weight_N = (t.double() for t in (statistics_NF, target_N, weight_N))
    drawn = np.random.default_rng(seed).permutation(len(statistics_NF))[:centres]
    regressor = NSSRegressor(len(drawn)).double()
    regressor.mean = _half(statistics_NF.mean(0))
    regressor.deviation = _half(statistics_NF.std(0, correction=0) + _FLOOR)
    chosen_MF = statistics_NF[torch.from_numpy(drawn)]
    regressor.centres = _half(regressor.standard(chosen_MF))
    regressor.bias = (weight_N @ target_N) / weight_N.sum()
    normal_MM = RIDGE * regressor.kernel(regressor.centres) + _JITTER * torch.eye(
        len(drawn), dtype=torch.float64
    )
    right_M = torch.zeros(len(drawn), dtype=torch.float64)
    for rows in torch.arange(len(statistics_NF)).split(_ROWS):
        kernel_NM = regressor.kernel(regressor.standard(statistics_NF[rows]))
        weighted_MN = kernel_NM.T * weight_N[rows]
        normal_MM += weighted_MN @ kernel_NM
        right_M += weighted_MN @ (target_N[rows] - regressor.bias)
    regressor.weights = torch.linalg.solve(normal_MM, right_M)
    return regressor.float().eval()


def _half(values: Tensor) -> Tensor:
    """Rounded to half precision, so that a model may be kept in it."""
    return values.half().double()


@torch.inference_mode()
def _measured(preprocessing: Preprocessing, path: Path, rows: list[PseudoLabel]) -> Tensor:
    """Statistics (K, F) of the crops that a teacher scored, or of those that cover an image."""
    image_CHW = eight_bits(resize_and_pad(read_image(path), preprocessing))
    size = preprocessing.crop
    scored = [row.pixels(image_CHW, size) for row in rows]
    crops = scored or covering_crops(image_CHW, preprocessing)
    measure = SceneStatistics()
    return torch.cat([measure(crop[None].float() / 255) for crop in crops])
