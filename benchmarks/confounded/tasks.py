"""Training and test data of a run: confounded in training, unconfounded in test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from confounded.config import ConfoundingRecipe
from confounded.photos import Photo, rated_photos
from confounded.tokens import Sheet, TokenStore
from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError
from qfm_iqm.files import text_hash
from qfm_iqm.training.degradations import Cells

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Crops:
    """All crops of an experiment, M of them.

    Attributes:
        tokens_MND: tokens, float16.
        labels: labels in label units.
        photos: number of each crop's content.
        clusters: cluster, 0 or 1.
        kinds: number of the degradation type; -1 for clean photos.
        cells: number of type and level; -1 for clean photos.
        sides: 1 for mild (or good), -1 for severe (or bad), 0 for neither.
        clean: row of the same photo's clean crop.
        sources: sheet of each crop, and its index in the sheet.
    """

    tokens_MND: Tensor
    labels: Doubles
    photos: Integers
    clusters: Integers
    kinds: Integers
    cells: Integers
    sides: Integers
    clean: Integers
    sources: list[tuple[Sheet, int]]


@dataclass(frozen=True, eq=False)
class Task:
    """The data of one run.

    Attributes:
        crops: all crops.
        train: rows for training.
        validation: rows for choosing options.
        test: unconfounded rows for testing.
        upper: cluster whose photos are mostly good in training.
    """

    crops: Crops
    train: Integers
    validation: Integers
    test: Integers
    upper: int


def sheets_of(photos: Sequence[Photo], cells: Cells) -> list[Sheet]:
    """The sheets of each photo: a clean one and one per degradation type."""
    strengths = {kind: tuple(s for s, _ in levels) for kind, levels in cells.levels.items()}
    return [
        sheet
        for photo in photos
        for sheet in (
            Sheet(photo.path),
            *(Sheet(photo.path, kind, strengths[kind]) for kind in photo.kinds),
        )
    ]


def degraded_crops(
    photos: Sequence[Photo], cells: Cells, store: TokenStore, recipe: ConfoundingRecipe
) -> Crops:
    """The crops of all photos, types and levels; their sheets must be in the store."""
    number = {kind: place for place, kind in enumerate(cells.levels)}
    most = max(map(len, cells.levels.values()))
    sheets = sheets_of(photos, cells)
    rows: list[tuple[float, int, int, int, int, int]] = []
    for place, photo in enumerate(photos):
        clean = len(rows)
        rows.append((np.nan, place, photo.cluster, -1, -1, clean))
        for kind in photo.kinds:
            for level, (_, label) in enumerate(cells.levels[kind]):
                cell = number[kind] * most + level
                rows.append((label, place, photo.cluster, number[kind], cell, clean))
    labels, *whole = (np.array(column) for column in zip(*rows, strict=True))
    sides = (labels > recipe.mild).astype(np.int64) - (labels < recipe.severe)
    places, clusters, kinds, numbers, clean_rows = whole
    sources = [(sheet, place) for sheet in sheets for place in range(sheet.crops)]
    return Crops(
        store.load(sheets), labels, places, clusters, kinds, numbers, sides, clean_rows, sources
    )


def degraded_task(
    crops: Crops, photos: Sequence[Photo], recipe: ConfoundingRecipe, rho: float, seed: int
) -> Task:
    """Draws the cells of a seed; with probability rho a cell agrees with its photo's cluster.

    The random numbers of a photo do not depend on rho: a cell that disagrees with the cluster at
    some rho does so at every smaller rho.
    """
    upper = seed % 2
    train: list[int] = []
    validation: list[int] = []
    tested: list[int] = []
    for cluster in (0, 1):
        mine = [place for place, photo in enumerate(photos) if photo.cluster == cluster]
        held_out = [place for place in mine if photos[place].validation]
        others = [place for place in mine if not photos[place].validation]
        others.sort(key=lambda place: text_hash(f"{seed}:{photos[place].name}"))
        tested += others[: recipe.test // 2]
        side = 1 if cluster == upper else -1
        for places, rows in ((held_out, validation), (others[recipe.test // 2 :], train)):
            for place in places:
                rows += _drawn(crops, place, side, rho, seed)
    test = np.flatnonzero(np.isin(crops.photos, tested) & (crops.cells >= 0))
    return Task(crops, np.array(train), np.array(validation), test, upper)


def _drawn(crops: Crops, place: int, side: int, rho: float, seed: int) -> list[int]:
    """One row per type of a photo: from `side` with probability rho, else from the other side."""
    rows = np.flatnonzero((crops.photos == place) & (crops.kinds >= 0))
    draw = np.random.default_rng([seed, place])
    chosen = []
    for kind in dict.fromkeys(crops.kinds[rows].tolist()):
        lot, which = draw.random(2)
        wanted = side if lot < rho else -side
        fitting = rows[(crops.kinds[rows] == kind) & (crops.sides[rows] == wanted)]
        chosen.append(int(fitting[int(which * len(fitting))]))
    return chosen


def human_photos(recipe: ConfoundingRecipe) -> RatedTable:
    """The twin's photos: those of the two subsets without the project's test photos.

    Raises:
        TableError: there is no such column or subset.
    """
    assert recipe.human is not None
    table, rows = rated_photos(recipe)
    known = table.select(np.concatenate([rows["train"], rows["validation"]]))
    groups = known.group(recipe.human.column)
    for subset in (recipe.human.upper, recipe.human.lower):
        if subset not in groups:
            raise TableError(f"{table.source} has no photos of '{subset}': {', '.join(groups)}.")
    return known.select(np.concatenate([groups[recipe.human.upper], groups[recipe.human.lower]]))


def human_crops(table: RatedTable, recipe: ConfoundingRecipe, store: TokenStore) -> Crops:
    """The clean crops of the twin's photos; their sheets must be in the store."""
    assert recipe.human is not None and table.mos is not None
    sheets = [Sheet(path) for path in table.paths(recipe.root)]
    subsets = np.array(table.column(recipe.human.column))
    clusters = (subsets == recipe.human.lower).astype(np.int64)
    medians = np.array([np.median(table.mos[clusters == cluster]) for cluster in (0, 1)])
    sides = np.sign(table.mos - medians[clusters]).astype(np.int64)
    contents = np.unique(np.array(table.contents), return_inverse=True)[1].astype(np.int64)
    all_one, rows = np.zeros(len(table), np.int64), np.arange(len(table))
    sources = [(sheet, 0) for sheet in sheets]
    return Crops(
        store.load(sheets), table.mos, contents, clusters, all_one, all_one, sides, rows, sources
    )


def human_task(crops: Crops, recipe: ConfoundingRecipe, seed: int) -> Task:
    """Trains on good photos of one subset and bad ones of the other; tests on other contents."""
    assert recipe.human is not None
    contents = sorted(
        set(crops.photos.tolist()), key=lambda content: text_hash(f"{seed}:{content}")
    )
    tested = np.isin(crops.photos, contents[: round(recipe.human.test * len(contents))])
    wanted = np.where(crops.clusters == 0, 1, -1)
    train = np.flatnonzero(~tested & (crops.sides == wanted))
    return Task(crops, train, np.array([], np.int64), np.flatnonzero(tested), 0)
