"""Pseudo-labels: what a frozen teacher says of crops (METHOD section 4).

    ^y_u = T(x_u)

A teacher is any quality model; its scores of fixed crops are computed once and kept as a table:
`name,content,top,left,distortion,level,score`, with the preprocessing under which the places
hold and the teacher's weight hash. A student learns from such a table as from labels.

Degraded crops (ours): of each image one crop may also be scored under one known degradation at
rising strength. A teacher that learned from photos alone may err there (it can take strong noise
for texture), so what we know is added: each step lowers quality by at least `drop`,

    ^y_l = min(T(x_l), ^y_(l-1) - drop),  l = 1..5,  ^y_0 = T(x).
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.image.cropping import Preprocessing, fit, grid_positions
from qfm_iqm.image.distorting import DISTORTIONS, distort
from qfm_iqm.image.reading import read_image
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


_COLUMNS = tuple(field.name for field in fields(PseudoLabel))


@dataclass(frozen=True)
class PseudoLabels:
    """A table of pseudo-labels.

    Attributes:
        rows: one per crop.
        preprocessing: under which the crops' places hold.
        teacher_sha256: of the teacher's weights.
    """

    rows: tuple[PseudoLabel, ...]
    preprocessing: Preprocessing
    teacher_sha256: str


@torch.inference_mode()
def pseudo_label(
    teacher: QualityModel,
    images: Sequence[tuple[str, str, Path]],
    *,
    extra_crops: int = 4,
    degrade: bool = False,
    drop: float = 0.1,
    seed: int = 0,
) -> Iterator[list[PseudoLabel]]:
    """Scores crops of images with a teacher: the covering grid, and some at random places.

    Args:
        teacher: frozen; set to evaluation.
        images: (name, content, file) of each image.
        extra_crops: random crops beside the grid.
        degrade: also score one of the crops under one of the degradations, at all strengths.
        drop: by how much each step of strength lowers quality at least, in standard deviations
            of the labels.
        seed: of the random choices, which depend on it and the image's place in the list.

    Yields:
        The pseudo-labels of one image after another.

    Raises:
        ImageError: an image cannot be read.
    """
    teacher.eval()
    preprocessing = teacher.card.preprocessing
    size = preprocessing.crop
    device = teacher.network.scale.mean.device
    label_std = teacher.network.scale.std.item()
    for index, (name, content, path) in enumerate(images):
        # In 8 bits, as the student will see it.
        image = fit(read_image(path), preprocessing).mul(255).round().to(torch.uint8)
        height, width = image.shape[-2:]
        draw = np.random.default_rng([seed, index])
        places = grid_positions(height, width, size) + [
            (int(draw.integers(height - size + 1)), int(draw.integers(width - size + 1)))
            for _ in range(extra_crops)
        ]
        asked = [PseudoLabel(name, content, top, left, "", 0, 0.0) for top, left in places]
        if degrade:
            kind = CHAINS[draw.integers(len(CHAINS))]
            chosen = asked[draw.integers(len(asked))]
            levels = range(1, len(DISTORTIONS[kind]) + 1)
            asked += [replace(chosen, distortion=kind, level=level) for level in levels]
        crops = torch.stack([crop.pixels(image, size) for crop in asked])
        scores = teacher.network(crops.to(device).float() / 255).tolist()
        labels = [replace(crop, score=score) for crop, score in zip(asked, scores, strict=True)]
        if degrade:
            least = labels[asked.index(chosen)].score
            for i in range(len(places), len(labels)):
                least = min(labels[i].score, least - drop * label_std)
                labels[i] = replace(labels[i], score=least)
        yield labels


def write_pseudo_labels(labels: PseudoLabels, path: Path) -> None:
    """Writes the table as CSV, and what holds for all of it into a comment line before it."""
    facts = {
        "preprocessing": labels.preprocessing.model_dump(),
        "teacher_sha256": labels.teacher_sha256,
    }
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {json.dumps(facts)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in labels.rows:
            writer.writerow((*astuple(row)[:-1], f"{row.score:.5f}"))
    partial.replace(path)


def read_pseudo_labels(path: Path) -> PseudoLabels:
    """Reads what `write_pseudo_labels` wrote.

    Raises:
        TableError: not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            facts = json.loads(file.readline().removeprefix("# "))
            rows = tuple(_from_cells(cells) for cells in csv.DictReader(file))
        preprocessing = Preprocessing(**facts["preprocessing"])
        return PseudoLabels(rows, preprocessing, facts["teacher_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{path} is no table of pseudo-labels as `qfm pseudo-label` writes it: {error!r}."
        ) from error


def _from_cells(cells: dict[str, str]) -> PseudoLabel:
    """A row of the table; ValueError, KeyError or TypeError if no teacher can have written it."""
    label = PseudoLabel(
        cells["name"],
        cells["content"],
        int(cells["top"]),
        int(cells["left"]),
        cells["distortion"],
        int(cells["level"]),
        float(cells["score"]),
    )
    levels = range(1, len(DISTORTIONS[label.distortion]) + 1) if label.distortion else (0,)
    if min(label.top, label.left) < 0 or label.level not in levels or not isfinite(label.score):
        raise ValueError(f"not possible: {label}")
    return label
