"""Groups photos into moments: photos that are similar and taken shortly after each other.

Photos are processed in order of time, those without a time last. Each joins the most similar moment
or starts a new one:

* For a photo with a time, candidates are the moments whose last photo was taken at most `gap`
  seconds before. It joins if its mean similarity with a moment's photos is at least `together`.
* For a photo without a time, all moments are candidates, and the limit is `alone`.
* A photo with the same bytes as an earlier one joins that one's moment.

Times are local, or in UTC if all of them have an offset. The running time is linear in the number
of photos, except that photos without a time are compared with every moment.

Shapes: N photos, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Floats


@dataclass(frozen=True)
class Limits:
    """The limits for photos of one moment.

    Attributes:
        gap: most seconds between a photo and the last one of its moment.
        together: least mean similarity with the photos of a moment within that time.
        alone: least mean similarity for a photo without a time.
    """

    gap: float
    together: float
    alone: float


@dataclass
class _Moments:
    """The moments so far: sums of unit features, numbers of photos, times of the last photos."""

    sums_MD: Floats
    counts: list[int] = field(default_factory=list)
    last: list[float | None] = field(default_factory=list)
    of_file: dict[str, int] = field(default_factory=dict)

    def similarities(self, features_D: Floats, first: int) -> Floats:
        """Mean similarity of a photo with each moment from `first` on."""
        count = np.array(self.counts[first:], np.float32)
        return (self.sums_MD[first : len(self.counts)] @ features_D) / count

    def put(self, moment: int | None, features_D: Floats, time: float | None) -> int:
        """Adds a photo to a moment, or to a new one; returns the moment's number."""
        if moment is None:
            moment = len(self.counts)
            self.counts.append(0)
            self.last.append(None)
        self.counts[moment] += 1
        self.sums_MD[moment] += features_D
        if time is not None:
            self.last[moment] = time
        return moment


def find_moments(
    taken: Sequence[str],
    features_ND: npt.NDArray[np.floating],
    files: Sequence[str],
    limits: Limits,
) -> list[int]:
    """Finds the moments of photos.

    Args:
        taken: capture time of each photo, as ISO 8601; empty if unknown.
        features_ND: layout features, see `culling.layout`.
        files: SHA-256 of each file.
        limits: limits for photos of one moment.

    Returns:
        The number of each photo's moment, from 0 in order of time.
    """
    if not taken:
        return []
    times = seconds_of(taken)
    units_ND = _units(features_ND)
    found = _Moments(np.zeros(units_ND.shape, np.float32))
    numbers = [0] * len(taken)
    timed = sorted((time, i) for i, time in enumerate(times) if time is not None)
    untimed = [(None, i) for i, time in enumerate(times) if time is None]
    first = 0  # first moment that may still get photos
    for time, i in [*timed, *untimed]:
        while (
            time is not None
            and first < len(found.last)
            and time - (found.last[first] or 0) > limits.gap
        ):
            first += 1
        moment = found.of_file.get(files[i])
        if moment is None:
            if time is None:
                moment = _most_alike(found, units_ND[i], 0, limits.alone)
            else:
                moment = _most_alike(found, units_ND[i], first, limits.together, time - limits.gap)
        numbers[i] = found.put(moment, units_ND[i], time)
        found.of_file.setdefault(files[i], numbers[i])
    return numbers


def _most_alike(
    found: _Moments,
    features_D: Floats,
    first: int,
    least: float,
    since: float | None = None,
) -> int | None:
    """The moment that a photo joins; None if there is none.

    Args:
        found: the moments so far.
        features_D: features of the photo.
        first: number of the first moment to consider.
        least: least similarity.
        since: earliest time of a moment's last photo; None for any time.
    """
    if first == len(found.counts):
        return None
    similarity = found.similarities(features_D, first)
    if since is not None:
        late = [time is not None and time >= since for time in found.last[first:]]
        similarity = np.where(late, similarity, -np.inf)
    best = int(similarity.argmax())
    return first + best if similarity[best] >= least else None


def seconds_of(taken: Sequence[str]) -> list[float | None]:
    """Times in seconds: in UTC if all have an offset, else local."""
    times = [datetime.fromisoformat(text) if text else None for text in taken]
    known = all(time.tzinfo is not None for time in times if time is not None)
    return [
        None if time is None else (time if known else time.replace(tzinfo=UTC)).timestamp()
        for time in times
    ]


def _units(features_ND: npt.NDArray[np.floating]) -> Floats:
    """Normalizes features to unit vectors."""
    features = features_ND.astype(np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)
