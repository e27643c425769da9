"""Pseudo-labels: the scores that frozen teachers give crops (docs/method.md, section 4).

    ^y_u = T(x_u), the mean over the teachers

A teacher is any quality model. It scores fixed crops once; a student learns from the scores as from
labels, and may learn from a teacher's tokens too (`distill.features`).

Degraded crops (ours): crops of each image may also be scored under one known degradation each, at
rising strength: a degradation sequence. A teacher that learned from photos alone may err there (it
can take strong noise for texture), so what we know is added: each step lowers quality by at least
`drop`,

    ^y_l = min(T(x_l), ^y_(l-1) - drop),  l = 1..5,  ^y_0 = T(x).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qfm_iqm.distill.features import grid_of
from qfm_iqm.errors import ImageError, TableError, as_raised_here
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.image.preprocess_torch import distort_tensor, eight_bits, resize_and_pad
from qfm_iqm.model.model import QualityModel

KINDS = tuple(LEVELS)
"""Kinds of degradation that sequences are drawn from; another list would draw other sequences."""


@dataclass(frozen=True)
class PseudoLabel:
    """A crop and what the teacher says of it.

    Attributes:
        name: of the image.
        content: of the image.
        top: row where the crop begins in the fitted image.
        left: column where it begins.
        distortion: name out of `LEVELS` applied to the crop; empty for none.
        level: its strength, 1 to 5; 0 for none.
        score: in label units.
    """

    name: str
    content: str
    top: int
    left: int
    distortion: str
    level: int
    score: float

    def shows(self, held: Collection[str]) -> bool:
        """Whether its image or content is among those."""
        return self.name in held or self.content in held

    def pixels(self, image_CHW: Tensor, size: int) -> Tensor:
        """The crop (3, S, S), degraded as said, out of the fitted uint8 image (3, H, W).

        Raises:
            ImageError: the crop lies outside of the image.
        """
        crop = image_CHW[:, self.top : self.top + size, self.left : self.left + size]
        if min(self.top, self.left) < 0 or crop.shape[1:] != (size, size):
            raise ImageError(
                f"The pseudo-labelled crop at row {self.top}, column {self.left} lies outside of "
                f"{self.name}: the file is not the one the teacher scored."
            )
        if not self.distortion:
            return crop
        # Each crop has noise of its own: one fixed pattern could be learned by heart.
        seed = zlib.crc32(f"{self.name}:{self.top}:{self.left}".encode())
        return distort_tensor(crop, self.distortion, self.level, seed)


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Which crops of an image teachers score.

    Attributes:
        extra_crops: random crops beside the covering grid.
        degradation_sequences: of each image, so many of the crops (drawn with replacement) are
            also scored under a random degradation, at all strengths.
        drop: by how much each step of strength lowers quality at least, in standard deviations
            of the labels.
        seed: of the random choices, which depend on it and the image's place in the list.
        grid: side of the grid that the first teacher's tokens are averaged to and kept; None keeps
            none.
    """

    extra_crops: int = 4
    degradation_sequences: int = 0
    drop: float = 0.1
    seed: int = 0
    grid: int | None = None


@torch.inference_mode()
def pseudo_label(
    teachers: Sequence[QualityModel],
    images: Sequence[tuple[str, str, Path]],
    config: PseudoLabelConfig = PseudoLabelConfig(),
    *,
    start: int = 0,
    workers: int = 0,
) -> Iterator[tuple[list[PseudoLabel], Tensor | None]]:
    """Scores crops of images with teachers: the covering grid, and some at random places.

    Args:
        teachers: frozen; set to evaluation. A crop's score is the mean of theirs.
        images: (name, content, file) of each image.
        config: which crops.
        start: images at the beginning of the list that are left out.
        workers: processes that read and degrade ahead; 0 does so in this one.

    Yields:
        The pseudo-labels of one image after another, and the first teacher's tokens (K, G * G, D).

    Raises:
        ImageError: an image cannot be read.
        TableError: teachers of different crops or labels; or tokens that cannot be averaged to the
            grid.
    """
    first = teachers[0]
    for teacher in teachers:
        _check_alike(first, teacher)
        teacher.eval()
    device = first.network.scale.mean.device
    drop = config.drop * first.network.scale.std.item()
    loader = DataLoader(
        _RequestedCrops(images, first.card.preprocessing, config),
        sampler=range(start, len(images)),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own: it draws, and others must not notice
    )
    with as_raised_here():
        for rows, crops_KCSS in loader:
            pixels_KCSS = crops_KCSS.to(device).float() / 255
            tokens = [teacher.network.encode(pixels_KCSS) for teacher in teachers]
            scores = [
                teacher.network.decode(tokens_KND)
                for teacher, tokens_KND in zip(teachers, tokens, strict=True)
            ]
            labels = _bounded(rows, torch.stack(scores).mean(0).tolist(), drop)
            yield labels, None if config.grid is None else grid_of(tokens[0], config.grid).cpu()


def _check_alike(first: QualityModel, other: QualityModel) -> None:
    """Refuses teachers whose scores of one crop have no mean."""
    # A teacher's crops are of its first size alone.
    one, two = (m.card.preprocessing.model_copy(update={"again": None}) for m in (first, other))
    for what, differ in (("crops", one != two), ("labels", first.card.label != other.card.label)):
        if differ:
            raise TableError(
                f"The teachers '{first.card.name}' and '{other.card.name}' score other {what}: "
                "their scores have no mean."
            )


class _RequestedCrops(Dataset[tuple[list[PseudoLabel], Tensor]]):
    """What teachers score: an image's crops, not scored yet, and their pixels uint8."""

    def __init__(
        self,
        images: Sequence[tuple[str, str, Path]],
        preprocessing: Preprocessing,
        config: PseudoLabelConfig,
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing
        self._config = config

    def __getitem__(self, index: int) -> tuple[list[PseudoLabel], Tensor]:
        name, content, path = self._images[index]
        config, size = self._config, self._preprocessing.crop
        # In 8 bits, as the student will see it.
        image = eight_bits(resize_and_pad(read_image(path), self._preprocessing))
        height, width = image.shape[-2:]
        draw = np.random.default_rng([config.seed, index])
        places = grid_positions(height, width, size) + [
            (int(draw.integers(height - size + 1)), int(draw.integers(width - size + 1)))
            for _ in range(config.extra_crops)
        ]
        clean = [PseudoLabel(name, content, top, left, "", 0, 0.0) for top, left in places]
        rows = list(clean)
        for _ in range(config.degradation_sequences):
            kind = KINDS[draw.integers(len(KINDS))]
            chosen = clean[draw.integers(len(clean))]
            levels = range(1, len(LEVELS[kind]) + 1)
            rows += [replace(chosen, distortion=kind, level=level) for level in levels]
        return rows, torch.stack([row.pixels(image, size) for row in rows])


def _as_it_is(item: Any) -> Any:
    """Nothing to collate: an image's crops are a batch."""
    return item


def _bounded(
    rows: Sequence[PseudoLabel], scores: Sequence[float], drop: float
) -> list[PseudoLabel]:
    """Crops with their scores, those of a sequence bounded by the one before."""
    clean = {(row.top, row.left): score for row, score in zip(rows, scores, strict=True)
             if not row.distortion}  # fmt: skip
    labels = []
    least = 0.0
    for row, score in zip(rows, scores, strict=True):
        if row.distortion:
            before = clean[row.top, row.left] if row.level == 1 else least
            score = least = min(score, before - drop)
        labels.append(replace(row, score=score))
    return labels
