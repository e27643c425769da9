"""Tables of pseudo-labels: crops of unlabeled images, which a teacher scores once.

A student learns from these scores as from labels.

    ^y = T(x) of each crop x that covers an image

A table has the columns name, content, top, left, score. A comment line before them holds the
preprocessing under which the places hold, and the teacher's weights. It is written image by image:
an interrupted table goes on with the image that it was at.

Shapes: K crops of an image, S crop size.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from qfm_iqm.errors import TableError, as_raised_here
from qfm_iqm.files import copy_whole, text_hash
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.image.resize import as_bytes, read_resized
from qfm_iqm.model.model import QualityModel
from qfm_iqm.text_tables import guarded, unguarded


@dataclass(frozen=True)
class PseudoLabel:
    """A crop and what the teacher says of it.

    Attributes:
        name: of the image.
        content: of the image.
        top: row where the crop begins in the resized image.
        left: column where it begins.
        score: in label units.
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
    *,
    workers: int = 0,
) -> None:
    """Writes what a teacher says of the crops that cover images.

    An interrupted table goes on if teacher and images are the same.

    Args:
        teacher: set to evaluation.
        images: name, content and file of each.
        out: CSV to write; replaced once the new one is whole.
        progress: wraps the images as they are done, given how many are to do.
        workers: processes that read ahead; 0 reads in this one.

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
            for labels in _scored(teacher, images, done, workers):
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
    """Reads what `write_pseudo_labels` wrote: the crops, and the preprocessing of their places.

    Raises:
        TableError: not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            facts = json.loads(file.readline().removeprefix("# "))
            rows = [_from_cells(cells) for cells in csv.DictReader(file)]
        return rows, Preprocessing(**facts["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} is no table of pseudo-labels: {error!r}.") from error


@torch.inference_mode()
def _scored(
    teacher: QualityModel, images: Sequence[tuple[str, str, Path]], start: int, workers: int
) -> Iterator[list[PseudoLabel]]:
    """The pseudo-labels of one image after another, from a place in the list on."""
    teacher.eval()
    device = teacher.network.scale.mean.device
    loader = DataLoader(
        _CoveringCrops(images, teacher.card.preprocessing),
        sampler=range(start, len(images)),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of its own: it draws, and others must not notice
    )
    with as_raised_here():
        for (name, content, _), (places, crops_KCSS) in zip(images[start:], loader, strict=True):
            scores_K = teacher.network(crops_KCSS.to(device).float() / 255).tolist()
            yield [
                PseudoLabel(name, content, top, left, score)
                for (top, left), score in zip(places, scores_K, strict=True)
            ]


class _CoveringCrops(Dataset[tuple[list[tuple[int, int]], Tensor]]):
    """The places of the crops that cover an image, and their pixels (K, 3, S, S) uint8."""

    def __init__(
        self, images: Sequence[tuple[str, str, Path]], preprocessing: Preprocessing
    ) -> None:
        self._images = images
        self._preprocessing = preprocessing

    def __getitem__(self, index: int) -> tuple[list[tuple[int, int]], Tensor]:
        # In 8 bits, as the student will see it.
        found = read_resized(self._images[index][2], self._preprocessing)
        image_CHW = torch.from_numpy(as_bytes(found.pixels))
        size = self._preprocessing.crop
        height, width = image_CHW.shape[1:]
        places = grid_positions(height, width, size)
        crops = [image_CHW[:, top : top + size, left : left + size] for top, left in places]
        return places, torch.stack(crops)


def _as_it_is(item: Any) -> Any:
    """Nothing to collate: an image's crops are a batch."""
    return item


def _kept(partial: Path, header: str, names: Sequence[str]) -> tuple[list[list[str]], int]:
    """The rows that an interrupted table holds, and of how many images.

    The last image is done again: its rows may not all be there, the last not whole.
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
    """A row of the table; ValueError, KeyError or TypeError if no teacher can have written it."""
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
