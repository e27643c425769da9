"""Chooses the photos of the experiment: best-rated ones in two semantically distant clusters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2

from confounded.config import ConfoundingRecipe
from qfm_iqm.arrays import Floats, Indices
from qfm_iqm.datasets.leakage import near_duplicates, perceptual_hashes
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.files import text_hash
from qfm_iqm.training.degradations import LIKE_JPEG, Cells, read_cells


@dataclass(frozen=True)
class Photo:
    """A photo of the experiment.

    Attributes:
        name: name in the table.
        path: image file.
        cluster: 0 for A, 1 for B.
        place: position on the axis between the clusters: above zero towards A, below towards B.
        kinds: degradation types that are applied to it.
        validation: whether it is a validation photo, for all seeds.
    """

    name: str
    path: Path
    cluster: int
    place: float
    kinds: tuple[str, ...]
    validation: bool


def rated_photos(recipe: ConfoundingRecipe) -> tuple[RatedTable, dict[str, Indices]]:
    """The table of rated photos, and the rows of the project's split.

    Raises:
        TableError: the table cannot be read or split.
    """
    table = read_table(recipe.root / recipe.labels)
    return table, split_by_content(table, seed=recipe.split_seed).indices(table)


def usable_cells(recipe: ConfoundingRecipe) -> Cells:
    """The degradation types that were rated and have both mild and severe cells.

    Raises:
        TableError: the table of ratings cannot be read, or too few types are usable.
    """
    found = {
        kind: levels
        for kind, levels in read_cells(recipe.cells).levels.items()
        if kind not in LIKE_JPEG  # these were not rated
        and any(label > recipe.mild for _, label in levels)
        and any(label < recipe.severe for _, label in levels)
    }
    if len(found) < recipe.kinds:
        raise TableError(
            f"{recipe.kinds} types of degradation are needed, but only {len(found)} in "
            f"{recipe.cells} have opinions above {recipe.mild} and below {recipe.severe}."
        )
    return Cells(found)


def best_rated(recipe: ConfoundingRecipe) -> tuple[list[str], list[Path]]:
    """Names and files of the pool: one photo per content, without near-duplicates.

    Raises:
        TableError: there are too few photos.
        ImageError: a photo cannot be read.
    """
    table, rows = rated_photos(recipe)
    assert table.mos is not None
    mos = table.mos
    order = sorted(rows["train"].tolist(), key=lambda row: (-mos[row], table.names[row]))
    first: dict[str, int] = {}
    for row in order:
        first.setdefault(table.contents[row], row)
    some = list(first.values())[: recipe.pool + recipe.pool // 5 + 1]
    candidates = table.select(some)
    paths = candidates.paths(recipe.root)
    hashes = perceptual_hashes(paths, strict=True).hashes_N8
    dropped: set[int] = set()
    for one, other, _ in near_duplicates(hashes, hashes):  # sorted: better-rated photos first
        if one < other and one not in dropped:
            dropped.add(other)
    kept = [row for row in range(len(paths)) if row not in dropped][: recipe.pool]
    if len(kept) < recipe.pool:
        raise TableError(
            f"The pool needs {recipe.pool} photos, but {table.source} has {len(kept)} "
            "training photos of different contents: lower pool."
        )
    return [candidates.names[row] for row in kept], [paths[row] for row in kept]


def choose_photos(
    recipe: ConfoundingRecipe,
    names: Sequence[str],
    paths: Sequence[Path],
    semantics_PD: Floats,
    kinds: Sequence[str],
) -> list[Photo]:
    """The photos at both ends of the axis between two k-means centers.

    Args:
        recipe: recipe of the experiment.
        names: names of the pool's photos, best-rated first.
        paths: files of the photos.
        semantics_PD: class tokens of the photos.
        kinds: degradation types, which are spread evenly over the photos of each cluster.

    Returns:
        Photos of A, then of B, each ordered by the SHA-256 of their names.
    """
    draw = np.random.default_rng(0)
    centers_2D, _ = kmeans2(semantics_PD.astype(np.float64), 2, iter=100, minit="++", seed=draw)
    distance_P2 = ((semantics_PD[:, None] - centers_2D) ** 2).sum(-1)
    place_P = distance_P2[:, 1] - distance_P2[:, 0]
    order = np.argsort(-place_P, kind="stable")
    half = recipe.photos // 2
    ends = [order[:half], order[-half:]]
    if min(names[i] for i in ends[1]) < min(names[i] for i in ends[0]):
        ends, place_P = ends[::-1], -place_P  # A has the first name, whatever k-means numbers it
    stride = len(kinds) // recipe.kinds
    photos = []
    for cluster, members in enumerate(ends):
        for rank, i in enumerate(sorted(members, key=lambda i: text_hash(f":{names[i]}"))):
            own = tuple(kinds[(rank + stride * n) % len(kinds)] for n in range(recipe.kinds))
            held_out = rank < recipe.validation // 2
            photo = Photo(names[i], paths[i], cluster, float(place_P[i]), own, held_out)
            photos.append(photo)
    return photos
