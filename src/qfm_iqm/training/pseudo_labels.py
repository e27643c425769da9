"""Tables of pseudo-labels: a teacher's scores of crops of unlabeled images.

They are computed once; a student learns from them as from labels.

    ^y = T(x) of each crop x that covers an image

A table has the columns name, content, top, left, score. A comment line above them holds the
preprocessing that the crop positions refer to and the hash of the teacher's weights. The table is
written image by image; an interrupted table resumes with the image it was at.

Shapes: K crops of an image, S crop size.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch

from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.files import copy_whole, text_hash
from qfm_iqm.image.decode_pool import read_ahead
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.image.resize import as_bytes
from qfm_iqm.model.model import QualityModel
from qfm_iqm.text_tables import guarded, unguarded


@dataclass(frozen=True)
class PseudoLabel:
    """A crop and the teacher's score of it.

    Attributes:
        name: name of the image.
        content: content of the image.
        top: first row of the crop in the resized image.
        left: first column of the crop.
        score: the teacher's score, in label units.
    """

    name: str
    content: str
    top: int
    left: int
    score: float


_COLUMNS = tuple(field.name for field in fields(PseudoLabel))


def write_pseudo_labels(
    teacher: QualityModel,
    images: Sequence[tuple[str, str, Path]],
    out: Path,
    progress: Callable[[Iterator[None], int], Iterable[None]],
) -> None:
    """Writes a teacher's scores of the crops that cover images.

    An interrupted table is resumed if teacher and images are the same.

    Args:
        teacher: the teacher; it is put in evaluation mode.
        images: name, content and file of each image.
        out: CSV file to write; replaced once the new one is complete.
        progress: wraps the iterator over finished images; also gets the number left to do.

    Raises:
        ImageError: an image cannot be read.
    """
    facts = {
        "preprocessing": teacher.card.preprocessing.model_dump(),
        "teacher": teacher.card.weights_sha256,
        "images": text_hash(repr([image[:2] for image in images])),
    }
    header = f"# {json.dumps(facts)}\n{','.join(_COLUMNS)}\n"
    partial = out.with_name(f".{out.name}.partial")
    kept, done = _kept(partial, header, [name for name, _, _ in images])
    with partial.open("w", newline="", encoding="utf-8") as file:
        file.write(header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(kept)
        file.flush()

        def written() -> Iterator[None]:
            for labels in _scored(teacher, images, done):
                writer.writerows(
                    (*map(guarded, astuple(row)[:-1]), f"{row.score:.5f}") for row in labels
                )
                file.flush()
                yield

        for _ in progress(written(), len(images) - done):
            pass
    copy_whole(partial, out)
    partial.unlink()


def read_pseudo_labels(path: Path) -> tuple[list[PseudoLabel], Preprocessing]:
    """Reads a table of `write_pseudo_labels`: the crops and their preprocessing.

    Raises:
        TableError: the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            facts = json.loads(file.readline().removeprefix("# "))
            rows = [_from_cells(cells) for cells in csv.DictReader(file)]
        return rows, Preprocessing(**facts["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} is not a table of pseudo-labels: {error!r}.") from error


@torch.inference_mode()
def _scored(
    teacher: QualityModel, images: Sequence[tuple[str, str, Path]], start: int
) -> Iterator[list[PseudoLabel]]:
    """Yields the pseudo-labels of each image in turn, beginning at index `start`."""
    teacher.eval()
    device = teacher.network.scale.mean.device
    policy = ReadingPolicy(teacher.card.preprocessing)
    size = policy.preprocessing.crop
    paths = (str(path) for _, _, path in images[start:])
    readings = read_ahead(paths, policy, min(8, usable_cores()), processes=False, max_memory=None)
    for (name, content, _), reading in zip(images[start:], readings, strict=True):
        assert reading is not None  # no borders are given
        if reading.pixels is None:
            raise ImageError(reading.error)
        image_CHW = torch.from_numpy(as_bytes(reading.pixels))  # the student's crops are bytes too
        height, width = image_CHW.shape[1:]
        places = grid_positions(height, width, size)
        crops = [image_CHW[:, top : top + size, left : left + size] for top, left in places]
        scores_K = teacher.network(torch.stack(crops).to(device).float() / 255).tolist()
        yield [
            PseudoLabel(name, content, top, left, score)
            for (top, left), score in zip(places, scores_K, strict=True)
        ]


def _kept(partial: Path, header: str, names: Sequence[str]) -> tuple[list[list[str]], int]:
    """The rows of an interrupted table, and the number of images they cover.

    The last image is scored again: its rows may be incomplete.
    """
    try:
        with partial.open(newline="", encoding="utf-8") as file:
            if file.read(len(header)) != header:
                return [], 0
            rows = [row for row in csv.reader(file) if len(row) == len(_COLUMNS)]
    except (OSError, ValueError, csv.Error):
        return [], 0
    last = names.index(unguarded(rows[-1][0])) if rows else 0
    done = set(map(guarded, names[:last]))
    return [row for row in rows if row[0] in done], last


def _from_cells(cells: dict[str, str]) -> PseudoLabel:
    """Parses a row of the table; invalid cells raise ValueError, KeyError or TypeError."""
    label = PseudoLabel(
        unguarded(cells["name"]),
        unguarded(cells["content"]),
        int(cells["top"]),
        int(cells["left"]),
        float(cells["score"]),
    )
    if min(label.top, label.left) < 0 or not math.isfinite(label.score):
        raise ValueError(f"not possible: {label}")
    return label
