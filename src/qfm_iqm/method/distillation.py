"""Pseudo-labels: what a frozen teacher says of crops (METHOD section 4).

    ^y_u = T(x_u)

A teacher is any quality model; its scores of fixed crops are computed once and kept as a table:
`name,content,top,left,score`, with the preprocessing under which the places hold and the
teacher's weight hash. A student learns from such a table as from labels.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from qfm_iqm.errors import TableError
from qfm_iqm.image.cropping import Preprocessing, fit, grid_positions
from qfm_iqm.image.reading import read_image
from qfm_iqm.network.model import QualityModel

_COLUMNS = ("name", "content", "top", "left", "score")


@dataclass(frozen=True)
class PseudoLabel:
    """A crop and what the teacher says of it, in label units."""

    name: str
    content: str
    top: int
    left: int
    score: float


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
    images: Sequence[tuple[str, str]],
    root: Path,
    *,
    extra_crops: int = 4,
    seed: int = 0,
) -> Iterator[list[PseudoLabel]]:
    """Scores crops of images with a teacher: the covering grid, and some at random places.

    Args:
        teacher: frozen; set to evaluation.
        images: (name, content) of each image.
        root: folder that names are relative to.
        extra_crops: random crops beside the grid.
        seed: of the random places, which depend on it and the image's place in the list.

    Yields:
        The pseudo-labels of one image after another.

    Raises:
        ImageError: an image cannot be read.
    """
    teacher.eval()
    preprocessing = teacher.card.preprocessing
    size = preprocessing.crop
    for index, (name, content) in enumerate(images):
        image = fit(read_image(root / name), preprocessing)
        height, width = image.shape[-2:]
        draw = np.random.default_rng([seed, index])
        places = grid_positions(height, width, size) + [
            (int(draw.integers(height - size + 1)), int(draw.integers(width - size + 1)))
            for _ in range(extra_crops)
        ]
        crops = torch.stack([image[:, t : t + size, l : l + size] for t, l in places])  # noqa: E741
        scores = teacher.network(crops.to(teacher.network.scale.mean.device)).tolist()
        yield [
            PseudoLabel(name, content, top, left, score)
            for (top, left), score in zip(places, scores, strict=True)
        ]


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
            writer.writerow((row.name, row.content, row.top, row.left, f"{row.score:.5f}"))
    partial.replace(path)


def read_pseudo_labels(path: Path) -> PseudoLabels:
    """Reads what `write_pseudo_labels` wrote.

    Raises:
        TableError: not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            facts = json.loads(file.readline().removeprefix("# "))
            rows = tuple(
                PseudoLabel(
                    row["name"],
                    row["content"],
                    int(row["top"]),
                    int(row["left"]),
                    float(row["score"]),
                )
                for row in csv.DictReader(file)
            )
        preprocessing = Preprocessing(**facts["preprocessing"])
        return PseudoLabels(rows, preprocessing, facts["teacher_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{path} is no table of pseudo-labels as `qfm pseudo-label` writes it: {error!r}."
        ) from error
