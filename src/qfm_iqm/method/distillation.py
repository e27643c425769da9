"""Pseudo-labels: what a frozen teacher says of crops (METHOD section 4).

    ^y_u = T(x_u)

A teacher is any quality model, asked once about fixed crops; a student learns from its answers as
from labels, and may learn from its tokens too (`method.hints`).

Degraded crops (ours): of each image one crop may also be scored under one known degradation at
rising strength. A teacher that learned from photos alone may err there (it can take strong noise
for texture), so what we know is added: each step lowers quality by at least `drop`,

    ^y_l = min(T(x_l), ^y_(l-1) - drop),  l = 1..5,  ^y_0 = T(x).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.errors import ImageError
from qfm_iqm.image.cropping import grid_positions
from qfm_iqm.image.distorting import DISTORTIONS, distort
from qfm_iqm.image.reading import read_image
from qfm_iqm.image.tensors import fit
from qfm_iqm.method.hints import grid_of
from qfm_iqm.network.model import QualityModel

CHAINS = ("blur", "jpeg", "noise", "contrast", "resample")
"""Kinds of degradation that chains are drawn from; another list would draw other chains."""


@dataclass(frozen=True)
class PseudoLabel:
    """A crop and what the teacher says of it.

    Attributes:
        name: of the image.
        content: of the image.
        top: row where the crop begins in the fitted image.
        left: column where it begins.
        distortion: name out of `DISTORTIONS` applied to the crop; empty for none.
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
        degraded = distort(crop.float() / 255, self.distortion, self.level, seed)
        return degraded.mul(255).round().to(torch.uint8)


@dataclass(frozen=True)
class Teaching:
    """What is asked of a teacher.

    Attributes:
        extra_crops: random crops beside the covering grid.
        degrade: also score one of the crops under one of the degradations, at all strengths.
        drop: by how much each step of strength lowers quality at least, in standard deviations
            of the labels.
        seed: of the random choices, which depend on it and the image's place in the list.
        grid: side of the grid that its tokens are averaged to and kept; None keeps none.
    """

    extra_crops: int = 4
    degrade: bool = False
    drop: float = 0.1
    seed: int = 0
    grid: int | None = None


@torch.inference_mode()
def pseudo_label(
    teacher: QualityModel,
    images: Sequence[tuple[str, str, Path]],
    asked: Teaching = Teaching(),
    *,
    start: int = 0,
) -> Iterator[tuple[list[PseudoLabel], Tensor | None]]:
    """Scores crops of images with a teacher: the covering grid, and some at random places.

    Args:
        teacher: frozen; set to evaluation.
        images: (name, content, file) of each image.
        asked: which crops.
        start: images at the beginning of the list that are left out.

    Yields:
        The pseudo-labels of one image after another, and the teacher's tokens (K, G * G, D).

    Raises:
        ImageError: an image cannot be read.
        TableError: its tokens cannot be averaged to the grid.
    """
    teacher.eval()
    preprocessing = teacher.card.preprocessing
    size = preprocessing.crop
    network = teacher.network
    device = network.scale.mean.device
    label_std = network.scale.std.item()
    for index, (name, content, path) in enumerate(images[start:], start):
        # In 8 bits, as the student will see it.
        image = fit(read_image(path), preprocessing).mul(255).round().to(torch.uint8)
        height, width = image.shape[-2:]
        draw = np.random.default_rng([asked.seed, index])
        places = grid_positions(height, width, size) + [
            (int(draw.integers(height - size + 1)), int(draw.integers(width - size + 1)))
            for _ in range(asked.extra_crops)
        ]
        rows = [PseudoLabel(name, content, top, left, "", 0, 0.0) for top, left in places]
        if asked.degrade:
            kind = CHAINS[draw.integers(len(CHAINS))]
            chosen = rows[draw.integers(len(rows))]
            levels = range(1, len(DISTORTIONS[kind]) + 1)
            rows += [replace(chosen, distortion=kind, level=level) for level in levels]
        crops = torch.stack([crop.pixels(image, size) for crop in rows])
        tokens_KND = network.encode(crops.to(device).float() / 255)
        scores = network.decode(tokens_KND).tolist()
        labels = [replace(crop, score=score) for crop, score in zip(rows, scores, strict=True)]
        if asked.degrade:
            least = labels[rows.index(chosen)].score
            for i in range(len(places), len(labels)):
                least = min(labels[i].score, least - asked.drop * label_std)
                labels[i] = replace(labels[i], score=least)
        yield labels, None if asked.grid is None else grid_of(tokens_KND, asked.grid).cpu()
