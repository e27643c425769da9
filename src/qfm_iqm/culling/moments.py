"""Which photos are of one moment: taken soon after each other, and alike.

Photos are gone through in the order of time, those without a time last. Each joins the moment that
it is most alike, or begins one of its own:

* A photo with a time looks among the moments whose last photo was taken at most `gap` seconds
  before. It joins if its similarity with the photos there is at least `together` on average.
* A photo without a time looks among all moments, and must be more alike: `alone`.
* A photo with the very bytes of an earlier one joins that one's moment.

Times are local, or in UTC if each of them tells its offset. The time that this takes grows with the
number of photos, but for those without a time, each of which is compared with every moment.

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
    """When photos are of one moment.

    Attributes:
        gap: seconds between a photo and the last one of its moment, at most.
        together: the least mean similarity with the photos of a moment in that time.
        alone: the same for a photo without a time.
    """

    gap: float
    together: float
    alone: float


@dataclass
class _Moments:
    """What is known of the moments so far: sums of unit features, counts, times of the last."""

    sums_MD: Floats
    counts: list[int] = field(default_factory=list)
    last: list[float | None] = field(default_factory=list)
    of_file: dict[str, int] = field(default_factory=dict)

    def similarities(self, features_D: Floats, first: int) -> Floats:
        """Mean similarity of a photo with each moment from a first one on."""
        count = np.array(self.counts[first:], np.float32)
        return (self.sums_MD[first : len(self.counts)] @ features_D) / count

    def put(self, moment: int | None, features_D: Floats, time: float | None) -> int:
        """Puts a photo into a moment, or into a new one; gives the moment."""
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
        taken: when each was taken, as ISO 8601; empty where that is not known.
        features_ND: what each shows, see `culling.layout`.
        files: SHA-256 of each file.
        limits: when photos are of one moment.

    Returns:
        The number of each photo's moment, from 0 in the order of time.
    """
    if not taken:
        return []
    times = seconds_of(taken)
    units_ND = _units(features_ND)
    found = _Moments(np.zeros(units_ND.shape, np.float32))
    numbers = [0] * len(taken)
    timed = sorted((time, i) for i, time in enumerate(times) if time is not None)
    untimed = [(None, i) for i, time in enumerate(times) if time is None]
    first = 0  # moment that may still go on
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
        features_D: of the photo.
        first: moment that is looked at.
        least: similarity.
        since: time of a moment's last photo, at least; None for any.
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
    """Times as seconds on one clock: UTC if each tells its offset, else local."""
    times = [datetime.fromisoformat(text) if text else None for text in taken]
    known = all(time.tzinfo is not None for time in times if time is not None)
    return [
        None if time is None else (time if known else time.replace(tzinfo=UTC)).timestamp()
        for time in times
    ]


def _units(features_ND: npt.NDArray[np.floating]) -> Floats:
    """Features as vectors of length 1."""
    features = features_ND.astype(np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)
