"""Groups scored photos into moments and ranks them there; makes the rows of `qfm cull`."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from qfm_iqm.arrays import Bytes, Doubles
from qfm_iqm.culling.measures import NAMES
from qfm_iqm.culling.moments import find_moments
from qfm_iqm.culling.ranking import Ranking, load_ranking, order_of, reason
from qfm_iqm.culling.row import CullRow
from qfm_iqm.culling.sights import Sight, hashes, layouts
from qfm_iqm.image.perceptual_hash import MAX_DISTANCE
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.scoring.row import COLUMNS

Compare = Callable[[Sequence[Sequence[Sight]]], Iterator[Doubles]]
"""Measures the photos of moments, each with the best score first; see `comparison.compared`."""

STARS = 5


def cull(
    sights: Sequence[Sight], label: LabelUnits, compare: Compare, *, gap: float | None = None
) -> list[CullRow]:
    """Groups photos into moments and ranks them there.

    Args:
        sights: sights of all photos, including those without a score.
        label: display units of the scores.
        compare: measures the photos of moments with several photos.
        gap: most seconds between photos of one moment; None takes the package's value.

    Returns:
        One row per photo: moments in order of time, their photos by rank; photos without a score
        come last.
    """
    ranking = load_ranking()
    limits = ranking.limits if gap is None else replace(ranking.limits, gap=gap)
    scored = [sight for sight in sights if sight.score is not None]
    failed = [CullRow(**_of_score(sight)) for sight in sights if sight.score is None]
    if not scored:
        return failed
    files = [sight.sha256 for sight in scored]
    points_N = _points([sight.score for sight in scored], label)
    # Copies of a file get equal scores, even if their batches were rounded differently.
    first: dict[str, int] = {}
    points_N = points_N[[first.setdefault(file, place) for place, file in enumerate(files)]]
    numbers = find_moments(
        [sight.taken for sight in scored],
        layouts(scored),
        files,
        limits,
    )
    moments: list[list[int]] = [[] for _ in range(max(numbers) + 1)]
    for photo in np.argsort(-points_N, kind="stable").tolist():
        moments[numbers[photo]].append(photo)
    stars_N = np.ceil(STARS * (rankdata(points_N) - 0.5) / len(scored)).astype(int)
    shared = [[scored[photo] for photo in photos] for photos in moments if len(photos) > 1]
    coming = compare(shared)
    rows = []
    for number, photos in enumerate(moments, 1):
        alone = len(photos) == 1
        measures_PM = np.full((1, len(NAMES)), np.nan) if alone else next(coming)
        found = _ranked([scored[i] for i in photos], points_N[photos], measures_PM, ranking)
        for place, changes in found:
            rating = int(stars_N[photos[place]])
            sight = scored[photos[place]]
            rows.append(CullRow(**_of_score(sight), moment=number, rating=rating, **changes))
    return rows + failed


def _ranked(
    sights: Sequence[Sight], points_P: Doubles, measures_PM: Doubles, ranking: Ranking
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the photos of a moment, best first, with their columns of culling."""
    merits_P = ranking.merits(points_P, measures_PM)
    explained_PT = ranking.explained(measures_PM)
    order = order_of(merits_P)
    best = os.path.basename(sights[order[0]].path)  # noqa: PTH119 - names may hold any bytes
    hashes_P8 = hashes(sights)
    for rank, place in enumerate(order, 1):
        kind, other = _duplicate(sights, hashes_P8, place, order[: rank - 1])
        said = reason(merits_P, explained_PT, place, order, best)
        if kind == "exact":
            said = f"the same file as {os.path.basename(sights[other].path)}"  # noqa: PTH119
        yield (
            place,
            {
                "photos": len(sights),
                "rank": rank,
                "keep": rank == 1,
                "reason": said,
                "duplicate": kind,
                "duplicate_of": sights[other].path if kind else "",
            },
        )


def _duplicate(
    sights: Sequence[Sight], hashes_P8: Bytes, place: int, better: Sequence[int]
) -> tuple[str, int]:
    """Whether and how a photo repeats a better one of its moment, and which one."""
    for other in better:
        if sights[other].sha256 == sights[place].sha256:
            return "exact", other
    if not better:
        return "", 0
    apart = np.bitwise_count(hashes_P8[list(better)] ^ hashes_P8[place]).sum(1)
    nearest = int(apart.argmin())
    return ("near", better[nearest]) if apart[nearest] <= MAX_DISTANCE else ("", 0)


def _points(scores: Sequence[float | None], label: LabelUnits) -> Doubles:
    """Scores from 0 (worst) to 100 (best); in label units if the label has no range."""
    values_N = np.array(scores, np.float64)
    if not label.higher_is_better:
        values_N = -values_N
    if label.span is not None:
        values_N *= 100 / label.span
    return values_N


def _of_score(sight: Sight) -> dict[str, Any]:
    """The columns of a photo's score and capture time."""
    return {name: getattr(sight, name) for name in COLUMNS} | {"taken": sight.taken}
