"""Tables of pseudo-labels: scored by teachers once, kept as a file, learned from by students.

    name,content,top,left,distortion,level,score

A comment line before them tells the preprocessing under which the places hold, the weight hashes of
the teachers and which crops were wanted. The first teacher's tokens, if they are kept, lie beside
the table as numbers of float16, row by row. A table is written image by image: an interrupted one
goes on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from qfm_iqm.distill.features import TeacherTokens
from qfm_iqm.distill.teacher import PseudoLabel, PseudoLabelConfig, pseudo_label
from qfm_iqm.errors import TableError
from qfm_iqm.files import copy_whole
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.model import QualityModel
from qfm_iqm.text_tables import guarded, unguarded

_COLUMNS = tuple(field.name for field in fields(PseudoLabel))


@dataclass(frozen=True)
class PseudoLabels:
    """A table of pseudo-labels.

    Attributes:
        rows: one per crop.
        preprocessing: under which the crops' places hold.
        teachers: SHA-256 of each teacher's weights.
        tokens: the first teacher's tokens of each row, if they were kept.
    """

    rows: tuple[PseudoLabel, ...]
    preprocessing: Preprocessing
    teachers: tuple[str, ...]
    tokens: TeacherTokens | None = None


def write_pseudo_labels(
    teachers: Sequence[QualityModel],
    images: Sequence[tuple[str, str, Path]],
    config: PseudoLabelConfig,
    out: Path,
    progress: Callable[[Iterator[None], int], Iterable[None]],
    *,
    workers: int = 0,
) -> int:
    """Writes a table of crops that teachers score, with the first one's tokens in a file beside it.

    What holds for the whole table stands in a comment line before it. An interrupted table goes
    on with the image it was at, if teachers, images and crops are the same.

    Args:
        teachers: frozen; a crop's score is the mean of theirs.
        images: (name, content, file) of each image.
        config: which crops.
        out: CSV to write; replaced once the new one is whole.
        progress: wraps the images as they are done, given how many are to do.
        workers: processes that read and degrade ahead; 0 does so in this one.

    Returns:
        The number of rows.

    Raises:
        ImageError: an image cannot be read.
        TableError: teachers of different crops or labels; or tokens that cannot be averaged to the
            grid.
    """
    facts: dict[str, Any] = {
        "preprocessing": teachers[0].card.preprocessing.model_dump(),
        "teachers": [teacher.card.weights_sha256 for teacher in teachers],
        "request": asdict(config),
        "images": hashlib.sha256(repr([image[:2] for image in images]).encode()).hexdigest(),
    }
    if config.grid is not None:
        facts["tokens"] = [config.grid**2, teachers[0].network.encoder.width]
    header = f"# {json.dumps(facts)}\n{','.join(_COLUMNS)}\n"
    partial = out.with_name(f".{out.name}.partial")
    kept, done = _kept(partial, header, [name for name, _, _ in images])
    count = len(kept)
    partial_tokens = out.with_name(f".{out.name}.tokens.partial")
    with (
        partial.open("w", newline="", encoding="utf-8") as file,
        partial_tokens.open("r+b" if done else "wb") as tokens_file,
    ):
        file.write(header)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(kept)
        file.flush()
        tokens_file.truncate(count * 2 * math.prod(facts.get("tokens", [0])))
        tokens_file.seek(0, os.SEEK_END)

        def written() -> Iterator[None]:
            nonlocal count
            scored = pseudo_label(teachers, images, config, start=done, workers=workers)
            for labels, tokens_KND in scored:
                if tokens_KND is not None:
                    tokens_file.write(tokens_KND.half().numpy().astype("<f2").tobytes())
                    tokens_file.flush()  # before the rows: they say that it is there
                writer.writerows(
                    (*map(guarded, astuple(row)[:-1]), f"{row.score:.5f}") for row in labels
                )
                file.flush()
                count += len(labels)
                yield

        for _ in progress(written(), len(images) - done):
            pass
    if config.grid is None:
        partial_tokens.unlink()
    else:
        partial_tokens.replace(tokens_beside(out))
    copy_whole(partial, out)
    partial.unlink()
    return count


def tokens_beside(table: Path) -> Path:
    """Where the tokens of a table's rows lie."""
    return table.with_name(f"{table.name}.tokens")


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


def read_pseudo_labels(path: Path) -> PseudoLabels:
    """Reads what `write_pseudo_labels` wrote.

    Raises:
        TableError: not such a table, or its tokens are not beside it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            facts = json.loads(file.readline().removeprefix("# "))
            rows = tuple(_from_cells(cells) for cells in csv.DictReader(file))
        preprocessing = Preprocessing(**facts["preprocessing"])
        teachers, shape = tuple(facts["teachers"]), facts.get("tokens")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(
            f"{path} is no table of pseudo-labels as `qfm data pseudo-label` writes it: {error!r}."
        ) from error
    tokens = None
    if shape is not None:
        number, width = shape
        tokens = TeacherTokens(tokens_beside(path), tokens=number, width=width, rows=len(rows))
    return PseudoLabels(rows, preprocessing, teachers, tokens)


def _from_cells(cells: dict[str, str]) -> PseudoLabel:
    """A row of the table; ValueError, KeyError or TypeError if no teacher can have written it."""
    label = PseudoLabel(
        unguarded(cells["name"]),
        unguarded(cells["content"]),
        int(cells["top"]),
        int(cells["left"]),
        cells["distortion"],
        int(cells["level"]),
        float(cells["score"]),
    )
    levels = range(1, len(LEVELS[label.distortion]) + 1) if label.distortion else (0,)
    if (
        min(label.top, label.left) < 0
        or label.level not in levels
        or not math.isfinite(label.score)
    ):
        raise ValueError(f"not possible: {label}")
    return label
