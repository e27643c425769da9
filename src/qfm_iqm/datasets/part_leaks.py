"""Leaks within a split: what one part shows of another.

Three reasons, the surest first: two images of one content; two files with the same bytes; two
near-duplicates by perceptual hash (`leakage`). The first two need no image decoded.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from qfm_iqm.datasets.leakage import (
    MAX_DISTANCE,
    Bytes,
    Progress,
    near_duplicates,
    perceptual_hashes,
)
from qfm_iqm.datasets.splits import PARTS, Split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.files import writing_text
from qfm_iqm.text_tables import guarded, unguarded


class PartLeak(NamedTuple):
    """Two images of different parts that show the same.

    Attributes:
        fold: number of the split.
        part: of the one image.
        image: its name.
        other_part: of the other.
        other: its name.
        reason: "content", "file" or "near-duplicate".
        distance: bits in which the perceptual hashes differ; 0 for the other reasons.
    """

    fold: int
    part: str
    image: str
    other_part: str
    other: str
    reason: str
    distance: int


@dataclass(frozen=True, eq=False)
class ImagePrints:
    """What tells a table's images apart, computed once for all its folds.

    Attributes:
        files: a key of each file that only files of the same bytes share, in the table's order.
        hashes_N8: perceptual hashes (N, 8), uint8, likewise; None where no image was decoded.
    """

    files: tuple[str, ...]
    hashes_N8: Bytes | None = None


def image_prints(paths: Sequence[Path], *, progress: Progress | None = None) -> ImagePrints:
    """Decodes every image for its perceptual hash, and compares the files.

    Args:
        paths: of a table's images, in its order.
        progress: wraps the hashes as they come, given their number.

    Raises:
        TableError: a file cannot be read.
    """
    files = file_prints(paths).files
    hashed = perceptual_hashes(paths, progress=progress)
    if hashed.errors:
        raise TableError(
            f"{len(hashed.errors)} images cannot be compared, the first: {hashed.errors[0]}"
        )
    return ImagePrints(files, hashed.hashes_N8)


def file_prints(paths: Sequence[Path]) -> ImagePrints:
    """Compares the files alone; only those of equal size are read.

    Args:
        paths: of a table's images, in its order.

    Raises:
        TableError: a file cannot be read.
    """
    try:
        sizes = [path.stat().st_size for path in paths]
    except OSError as error:
        raise TableError(f"{error.filename} cannot be read: {error.strerror}.") from error
    count = Counter(sizes)
    return ImagePrints(
        tuple(
            _digest(path) if count[size] > 1 else f"the only one of {size} bytes"
            for path, size in zip(paths, sizes, strict=True)
        )
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error


def find_part_leaks(
    table: RatedTable,
    split: Split,
    prints: ImagePrints | None = None,
    *,
    fold: int = 0,
    max_distance: int = MAX_DISTANCE,
) -> list[PartLeak]:
    """Lists what two parts share, a row for each pair, under its surest reason.

    Args:
        table: rated images.
        split: of this table.
        prints: of its images; None looks at contents alone.
        fold: number of the split.
        max_distance: bits in which near-duplicates differ at most.

    Raises:
        TableError: the split is of another table.
    """
    parts = split.indices(table)
    leaks: list[PartLeak] = []
    for one, other in combinations(PARTS, 2):
        pairs: dict[tuple[int, int], tuple[str, int]] = {}
        for i, j in _shared(table.contents, parts[one].tolist(), parts[other].tolist()):
            pairs[i, j] = ("content", 0)
        if prints is not None:
            for i, j in _shared(prints.files, parts[one].tolist(), parts[other].tolist()):
                pairs.setdefault((i, j), ("file", 0))
        if prints is not None and prints.hashes_N8 is not None:
            hashes = prints.hashes_N8
            for a, b, distance in near_duplicates(
                hashes[parts[one]], hashes[parts[other]], max_distance=max_distance
            ):
                place = (int(parts[one][a]), int(parts[other][b]))
                pairs.setdefault(place, ("near-duplicate", distance))
        leaks += [
            PartLeak(fold, one, table.names[i], other, table.names[j], reason, distance)
            for (i, j), (reason, distance) in sorted(pairs.items())
        ]
    return leaks


def refuse_part_leaks(
    leaks: Sequence[PartLeak], listed: Path | None = None, *, remedy: str = ""
) -> None:
    """Refuses a split whose parts share images.

    Args:
        leaks: as `find_part_leaks` lists them.
        listed: where they are written, for the message.
        remedy: what the user can do, for the message.

    Raises:
        TableError: there are any; counts them by reason and names the nearest three.
    """
    if not leaks:
        return
    counts = dict.fromkeys(("content", "file", "near-duplicate"), 0)
    for leak in leaks:
        counts[leak.reason] += 1
    told = ", ".join(f"{count} by {reason}" for reason, count in counts.items() if count)
    nearest = sorted(leaks, key=lambda leak: leak.distance)[:3]
    shown = ", ".join(f"{leak.image} ({leak.part}) ~ {leak.other} ({leak.other_part})"
                      for leak in nearest)  # fmt: skip
    folds = sorted({leak.fold for leak in leaks})
    where = f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds"
    place = f"; all: {listed}" if listed is not None else ""
    raise TableError(
        f"{len(leaks)} pairs of images leak between parts of {where} ({told}): {shown}"
        f"{place}{f'; {remedy}' * bool(remedy)}."
    )


def write_part_leaks(leaks: Sequence[PartLeak], path: Path) -> None:
    """Writes the list as CSV.

    Raises:
        TableError: the place cannot be written to.
    """
    with writing_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PartLeak._fields)
        writer.writerows(map(guarded, leak) for leak in leaks)


def read_part_leaks(path: Path) -> list[PartLeak]:
    """The list that `write_part_leaks` wrote.

    Raises:
        TableError: it is not there, or is no such list.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if tuple(header) != PartLeak._fields:
            raise ValueError("its columns are others")
        return [
            PartLeak(int(fold), part, image, other_part, other, reason, int(distance))
            for fold, part, image, other_part, other, reason, distance in (
                map(unguarded, row) for row in rows
            )
        ]
    except (OSError, ValueError, TypeError) as error:
        raise TableError(f"{path} is no list of leaks that can be read ({error}).") from error


def _shared(keys: Sequence[str], ones: list[int], others: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of a row of the one list and a row of the other with the same key."""
    rows: dict[str, list[int]] = {}
    for i in ones:
        rows.setdefault(keys[i], []).append(i)
    for j in others:
        for i in rows.get(keys[j], ()):
            yield i, j
