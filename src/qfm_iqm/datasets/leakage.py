"""Leaks: images of different splits that show the same.

There are three reasons, the most certain first: the images have the same content; the files hold
the same bytes; the images are near-duplicates, which may differ in encoding, size or brightness.
Only the last requires decoding: the perceptual hashes (`image.perceptual_hash`) differ in few bits.

Shapes: N images, 8 bytes per hash.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Bytes
from qfm_iqm.datasets.splits import SPLITS, Split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.files import sha256_of
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.memory_budget import usable_cores
from qfm_iqm.image.perceptual_hash import MAX_DISTANCE, perceptual_hash
from qfm_iqm.text_tables import read_dicts, write_csv

Progress = Callable[[Iterator[Bytes | ImageError], int], Iterator[Bytes | ImageError]]

_PAIRS_AT_ONCE = 2**20  # 8 MiB, which fits the processor's cache


class Leak(NamedTuple):
    """Two images of different splits that show the same.

    Attributes:
        fold: number of the fold.
        split: split of the first image: "train", "validation", "test", or "unlabeled".
        image: name of the first image; its path if it is unlabeled.
        other_split: split of the second image.
        other: name of the second image; its path if the first is unlabeled.
        reason: "content", "file" or "near-duplicate".
        distance: Hamming distance of the perceptual hashes; 0 for the other reasons.
    """

    fold: int
    split: str
    image: str
    other_split: str
    other: str
    reason: str
    distance: int


@dataclass(frozen=True, eq=False)
class HashedImages:
    """The readable images and their hashes (N, 8)."""

    paths: tuple[Path, ...]
    hashes_N8: Bytes


def perceptual_hashes(
    paths: Sequence[Path | str], *, strict: bool = False, progress: Progress | None = None
) -> HashedImages:
    """Hashes images upright and in sRGB, as the network sees them.

    Args:
        paths: the files.
        strict: refuse unreadable files; otherwise they are left out.
        progress: wraps the iterator over hashes; also gets their number.

    Raises:
        ImageError: a file cannot be read and `strict` is True.
    """
    pool = ThreadPoolExecutor(min(8, usable_cores()))
    try:
        coming = pool.map(_hash, paths)
        hashes = list(progress(coming, len(paths)) if progress else coming)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run stops reading
    hashed = {i: bits for i, bits in enumerate(hashes) if not isinstance(bits, ImageError)}
    errors = [str(error) for error in hashes if isinstance(error, ImageError)]
    if strict and errors:
        raise ImageError(f"{len(errors)} images cannot be compared, the first: {errors[0]}")
    return HashedImages(
        paths=tuple(Path(paths[i]) for i in hashed),
        hashes_N8=np.array(list(hashed.values()), dtype=np.uint8).reshape(-1, 8),
    )


def near_duplicates(
    hashes_a: Bytes, hashes_b: Bytes, *, max_distance: int = MAX_DISTANCE
) -> list[tuple[int, int, int]]:
    """Lists all pairs (row of a, row of b, distance) of hashes that differ in few bits, sorted.

    Compares every pair, a bounded number at a time; 10^4 x 10^5 pairs take a few seconds.

    Args:
        hashes_a: hashes (N, 8), uint8.
        hashes_b: hashes (M, 8), uint8.
        max_distance: largest Hamming distance of a pair.
    """
    words_a, words_b = _words(hashes_a), _words(hashes_b)
    rows = max(1, _PAIRS_AT_ONCE // max(1, len(words_b)))
    pairs: list[tuple[int, int, int]] = []
    for first in range(0, len(words_a), rows):
        distances = np.bitwise_count(words_a[first : first + rows, None] ^ words_b)
        i, j = np.nonzero(distances <= max_distance)
        pairs += zip((i + first).tolist(), j.tolist(), distances[i, j].tolist(), strict=True)
    return pairs


def file_keys(paths: Sequence[Path]) -> tuple[str, ...]:
    """A key for each file that only files with the same bytes share.

    Reads only files of equal size.

    Raises:
        TableError: a file cannot be read.
    """
    try:
        sizes = [path.stat().st_size for path in paths]
        count = Counter(sizes)
        keys = []
        for path, size in zip(paths, sizes, strict=True):
            only = count[size] == 1
            keys.append(f"the only one of {size} bytes" if only else sha256_of(path))
    except OSError as error:
        raise TableError(f"{error.filename} cannot be read: {error.strerror}.") from error
    return tuple(keys)


def split_leaks(
    table: RatedTable,
    split: Split,
    *,
    files: Sequence[str] | None = None,
    hashes_N8: Bytes | None = None,
    fold: int = 0,
) -> list[Leak]:
    """Lists the leaking pairs between splits, each with its most certain reason.

    Args:
        table: rated images.
        split: split of this table.
        files: key of each image's file (`file_keys`); None compares no files.
        hashes_N8: perceptual hashes; None looks for no near-duplicates.
        fold: number of the fold.

    Raises:
        TableError: the split belongs to another table.
    """
    rows = split.indices(table)
    keys = [("content", table.contents)] + ([] if files is None else [("file", files)])
    leaks: list[Leak] = []
    for one, other in combinations(SPLITS, 2):
        pairs: dict[tuple[int, int], tuple[str, int]] = {}
        for reason, values in keys:
            for pair in _shared(values, rows[one].tolist(), rows[other].tolist()):
                pairs.setdefault(pair, (reason, 0))
        if hashes_N8 is not None:
            alike = near_duplicates(hashes_N8[rows[one]], hashes_N8[rows[other]])
            for a, b, distance in alike:
                pair = (int(rows[one][a]), int(rows[other][b]))
                pairs.setdefault(pair, ("near-duplicate", distance))
        leaks += [
            Leak(fold, one, table.names[i], other, table.names[j], reason, distance)
            for (i, j), (reason, distance) in sorted(pairs.items())
        ]
    return leaks


def fold_leaks(
    table: RatedTable, splits: Mapping[int, Split], root: Path, progress: Progress | None = None
) -> list[Leak]:
    """Decodes every image once and lists the leaks of every fold.

    Raises:
        TableError: a split belongs to another table, or names match no file.
        ImageError: an image cannot be read.
    """
    paths = table.paths(root)
    files = file_keys(paths)
    hashes_N8 = perceptual_hashes(paths, strict=True, progress=progress).hashes_N8
    return [
        leak
        for fold, split in splits.items()
        for leak in split_leaks(table, split, files=files, hashes_N8=hashes_N8, fold=fold)
    ]


def pool_leaks(
    names: Sequence[str],
    contents: Sequence[str],
    paths: Sequence[Path],
    held_out: Mapping[str, RatedTable],
    root: Path,
) -> list[Leak]:
    """Lists unlabeled images that leak from held-out rated images.

    An image leaks if it has the content or the name of a held-out image, or if it is a
    near-duplicate of one. An unlabeled image that cannot be read is compared by name and content.

    Args:
        names: names of the unlabeled images.
        contents: content of each unlabeled image; its name if unknown.
        paths: files of the unlabeled images.
        held_out: held-out splits (validation, test) by name.
        root: base folder of the held-out images' names.

    Raises:
        ImageError: a held-out image cannot be read.
    """
    held = [(split, path) for split, part in held_out.items() for path in part.paths(root)]
    owner: dict[str, tuple[str, Path]] = {}
    for attribute in ("contents", "names"):
        keys = [key for part in held_out.values() for key in getattr(part, attribute)]
        owner |= dict(zip(keys, held, strict=True))
    pairs: dict[tuple[Path, tuple[str, Path]], tuple[str, int]] = {}
    for path, name, content in zip(paths, names, contents, strict=True):
        if (key := content if content in owner else name) in owner:
            pairs[path, owner[key]] = ("content", 0)
    held_hashes_M8 = perceptual_hashes([path for _, path in held], strict=True).hashes_N8
    pool = perceptual_hashes(paths)
    for i, j, distance in near_duplicates(pool.hashes_N8, held_hashes_M8):
        pairs.setdefault((pool.paths[i], held[j]), ("near-duplicate", distance))
    return [
        Leak(0, "unlabeled", str(path), split, str(other), reason, distance)
        for (path, (split, other)), (reason, distance) in pairs.items()
    ]


def write_leaks(leaks: Sequence[Leak], path: Path) -> None:
    """Writes a CSV with one row per pair."""
    write_csv(path, Leak._fields, leaks)


def read_leaks(path: Path) -> list[Leak]:
    """Reads a list written by `write_leaks`.

    Raises:
        TableError: the file does not exist or is no such list.
    """
    rows: list[dict[str, Any]] = list(read_dicts(path, *Leak._fields))
    try:
        return [
            Leak(**row | {"fold": int(row["fold"]), "distance": int(row["distance"])})
            for row in rows
        ]
    except (ValueError, TypeError) as error:
        raise TableError(f"{path} is not a readable list of leaks ({error}).") from error


def refuse_leaks(leaks: Sequence[Leak], *, listed: Path | None = None, remedy: str) -> None:
    """Refuses splits that share images.

    Args:
        leaks: leaking pairs.
        listed: file that lists them, for the message.
        remedy: what the user can do, for the message.

    Raises:
        TableError: there are leaks; the message counts them by reason and names the nearest three.
    """
    if not leaks:
        return
    counts = Counter(leak.reason for leak in leaks)
    told = ", ".join(f"{count} by {reason}" for reason, count in sorted(counts.items()))
    nearest = sorted(leaks, key=lambda leak: leak.distance)[:3]
    shown = ", ".join(
        f"{leak.image} ({leak.split}) ~ {leak.other} ({leak.other_split})" for leak in nearest
    )
    folds = len({leak.fold for leak in leaks})
    raise TableError(
        f"{len(leaks)} pairs of images leak between splits{f' of {folds} folds' * (folds > 1)} "
        f"({told}): {shown}{', ...' * (len(leaks) > 3)}{f'; all: {listed}' if listed else ''}; "
        f"{remedy}."
    )


def _shared(keys: Sequence[str], ones: list[int], others: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of a row in `ones` and a row in `others` with the same key."""
    rows: dict[str, list[int]] = {}
    for i in ones:
        rows.setdefault(keys[i], []).append(i)
    return ((i, j) for j in others for i in rows.get(keys[j], ()))


def _hash(path: Path | str) -> Bytes | ImageError:
    """The pHash (8,) of an image, or the error if it cannot be read."""
    try:
        return perceptual_hash(read_image_uint8(path))
    except ImageError as error:
        return error


def _words(hashes_N8: Bytes) -> npt.NDArray[np.uint64]:
    """Each hash as a 64-bit integer."""
    return np.ascontiguousarray(hashes_N8).view(np.uint64)[:, 0]
