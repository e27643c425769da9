"""Leaks: images of one set that show, but for encoding, size or brightness, what another set shows.

Each image is reduced to the 64 bits of its perceptual hash (pHash: which of the 8 x 8 lowest
frequencies of the 32 x 32 grey image lie above their median), and two images are near-duplicates
if few bits differ.

Where the limit lies (ours; by looking at BIQ2021's photos): pairs of one `content` id differ by at
most 2 bits. Pairs of different ids within 6 bits nearly all show the same scene after all; at 8
bits some are false, at 14 most. benchmarks/near_duplicates.py counts them.

What is not found: mirrored, rotated or strongly cropped copies; and images without structure,
such as all-black ones, cannot be told apart.

Shapes: N images, 8 bytes a hash.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.files import writing_text
from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.text_tables import guarded

Bytes = npt.NDArray[np.uint8]
Progress = Callable[[Iterator[Bytes | ImageError], int], Iterator[Bytes | ImageError]]

MAX_DISTANCE = 6  # bits

_PAIRS_AT_ONCE = 2**20  # 8 MiB of differing bits: within the processor's cache


@dataclass(frozen=True, eq=False)
class HashedImages:
    """Images with their perceptual hashes.

    Attributes:
        paths: the images that could be read, in the order asked.
        hashes_N8: their hashes (N, 8), uint8.
        errors: one sentence for each image that could not be read; it names the file.
    """

    paths: tuple[Path, ...]
    hashes_N8: Bytes
    errors: tuple[str, ...] = ()


class Leak(NamedTuple):
    """A row of the report: an image of the pool and the held-out image that it repeats.

    Attributes:
        image: file in the pool.
        held_out: file of the set that must stay unseen.
        distance: bits in which the perceptual hashes differ, 0 to 64.
    """

    image: str
    held_out: str
    distance: int


def perceptual_hashes(
    paths: Sequence[Path | str], *, readers: int | None = None, progress: Progress | None = None
) -> HashedImages:
    """Hashes images as the network would see them: upright, sRGB.

    A file that cannot be read is listed in `errors` and stops nothing.

    Args:
        paths: the files.
        readers: threads that read images; None takes one per core, at most 8.
        progress: wraps the hashes as they come, given their number.
    """
    pool = ThreadPoolExecutor(readers or min(8, os.cpu_count() or 1), thread_name_prefix="hash")
    try:
        coming = pool.map(_hash, paths)
        answers = list(progress(coming, len(paths)) if progress else coming)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted run does not read on
    hashed = {i: bits for i, bits in enumerate(answers) if not isinstance(bits, ImageError)}
    return HashedImages(
        paths=tuple(Path(paths[i]) for i in hashed),
        hashes_N8=np.array(list(hashed.values()), dtype=np.uint8).reshape(-1, 8),
        errors=tuple(str(answer) for answer in answers if isinstance(answer, ImageError)),
    )


def near_duplicates(
    hashes_a: Bytes, hashes_b: Bytes, *, max_distance: int = MAX_DISTANCE
) -> list[tuple[int, int, int]]:
    """All pairs of a hash of the one set and a hash of the other that differ by few bits.

    Every pair is looked at, a bounded number at a time: 10^4 x 10^5 take some seconds.

    Args:
        hashes_a: hashes (N, 8), uint8.
        hashes_b: hashes (M, 8), uint8.
        max_distance: bits by which a pair differs at most.

    Returns:
        (row of a, row of b, distance in bits), sorted.

    Raises:
        ValueError: arrays of another shape or type, or a distance out of 0 to 64.
    """
    if not 0 <= max_distance <= 64:
        raise ValueError(f"hashes of 64 bits differ by 0 to 64 of them, not {max_distance}")
    words_a, words_b = _words(hashes_a), _words(hashes_b)
    rows = max(1, _PAIRS_AT_ONCE // max(1, len(words_b)))
    pairs: list[tuple[int, int, int]] = []
    for first in range(0, len(words_a), rows):
        distances = np.bitwise_count(words_a[first : first + rows, None] ^ words_b)
        i, j = np.nonzero(distances <= max_distance)
        pairs += zip((i + first).tolist(), j.tolist(), distances[i, j].tolist(), strict=True)
    return pairs


def find_leaks(
    pool: HashedImages, held_out: HashedImages, *, max_distance: int = MAX_DISTANCE
) -> list[Leak]:
    """Lists what a pool repeats of images that must stay unseen, a row for each pair.

    Args:
        pool: images to learn from.
        held_out: images to judge on.
        max_distance: bits by which the hashes of near-duplicates differ at most.
    """
    return [
        Leak(str(pool.paths[i]), str(held_out.paths[j]), distance)
        for i, j, distance in near_duplicates(
            pool.hashes_N8, held_out.hashes_N8, max_distance=max_distance
        )
    ]


def pool_leaks(
    names: Sequence[str],
    contents: Sequence[str],
    paths: Sequence[Path],
    held_out: Sequence[RatedTable],
    root: Path,
    *,
    max_distance: int = MAX_DISTANCE,
) -> list[Leak]:
    """Lists what images to learn from repeat of rated images that must stay unseen.

    An image leaks if it shows a content, or bears the name, of a held-out image, or if its
    perceptual hash is near to that of one.

    Args:
        names: of the images to learn from.
        contents: what each shows; its name where nothing is said.
        paths: of their files.
        held_out: parts to choose or to judge by.
        root: folder that the names of these are relative to.
        max_distance: bits by which the hashes of near-duplicates differ at most.

    Raises:
        ImageError: a held-out image cannot be read, and so not compared.
    """
    held_paths: list[Path] = []
    owner: dict[str, Path] = {}
    for part in held_out:
        of_part = part.paths(root)
        held_paths += of_part
        owner |= dict(zip(part.contents, of_part, strict=True))
        owner |= dict(zip(part.names, of_part, strict=True))
    leaks = [
        Leak(str(path), str(owner[key]), 0)
        for path, name, content in zip(paths, names, contents, strict=True)
        if (key := content if content in owner else name) in owner
    ]
    held_hashes = perceptual_hashes(held_paths)
    if held_hashes.errors:
        raise ImageError(f"A rated image cannot be compared: {held_hashes.errors[0]}")
    alike = find_leaks(perceptual_hashes(paths), held_hashes, max_distance=max_distance)
    said = {leak[:2] for leak in leaks}
    return leaks + [leak for leak in alike if leak[:2] not in said]


def write_leaks(leaks: Sequence[Leak], path: Path) -> None:
    """Writes a CSV with a row for each pair."""
    with writing_text(path, errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Leak._fields)
        writer.writerows(map(guarded, leak) for leak in leaks)


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Refuses a pool that repeats held-out images.

    Args:
        leaks: as `find_leaks` lists them.

    Raises:
        TableError: there are any; says how many, and names the nearest three.
    """
    if not leaks:
        return
    nearest = sorted(leaks, key=lambda leak: leak.distance)[:3]
    shown = ", ".join(f"{leak.image} ~ {leak.held_out} ({leak.distance} bits)" for leak in nearest)
    raise TableError(
        f"{len({leak.image for leak in leaks})} images to learn from are near-duplicates of "
        f"{len({leak.held_out for leak in leaks})} held-out ones; pairs: {len(leaks)}, "
        f"the nearest {shown}{', ...' if len(leaks) > 3 else ''}; take them out of the pool."
    )


def _hash(path: Path | str) -> Bytes | ImageError:
    """The pHash (8,) of an image, or why it cannot be read."""
    try:
        pixels_CHW = read_image_uint8(path)
    except ImageError as error:
        return error
    image = Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0)))
    bits: npt.NDArray[np.bool_] = imagehash.phash(image).hash
    return np.packbits(bits)


def _words(hashes_N8: Bytes) -> npt.NDArray[np.uint64]:
    """Each hash as one number of 64 bits."""
    if hashes_N8.dtype != np.uint8 or hashes_N8.ndim != 2 or hashes_N8.shape[1] != 8:
        raise ValueError(
            f"hashes are uint8 (N, 8), not {hashes_N8.dtype} of shape {hashes_N8.shape}"
        )
    return np.ascontiguousarray(hashes_N8).view(np.uint64)[:, 0]
