"""Measures the photos of each moment, which are read again at native resolution.

Only photos that share their moment with others are read. The photo with the best score comes first,
because regions are chosen in it; only one photo is in memory at a time.

Results are recorded in a file with one line per moment, from which an interrupted run resumes. A
moment with an unreadable photo is not recorded.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from qfm_iqm.arrays import Bytes, Doubles
from qfm_iqm.culling.measures import NAMES, measured
from qfm_iqm.culling.regions import LEAST_SIDE, Regions
from qfm_iqm.culling.sights import Sight
from qfm_iqm.image.decode_pool import read_ahead
from qfm_iqm.image.load import Reading, ReadingPolicy
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.resize import as_bytes
from qfm_iqm.scoring.scorer import Scorer

Reread = Callable[[Iterable[Sight]], Iterator[Reading | None]]
"""Reads photos with a `native` policy, on demand and in order."""


def native(policy: ReadingPolicy) -> ReadingPolicy:
    """The policy for reading photos at native resolution, from the policy for scoring them."""
    return replace(
        policy, preprocessing=Preprocessing(crop=LEAST_SIDE), statistics=False, causes=None
    )


def rereading(scorer: Scorer) -> Reread:
    """Returns a function that reads photos like a scorer."""

    def reread(sights: Iterable[Sight]) -> Iterator[Reading | None]:
        return read_ahead(
            (sight.path for sight in sights),
            native(scorer.policy),
            scorer.readers,
            processes=scorer.processes,
            max_memory=scorer.max_memory,
        )

    return reread


def compared(
    moments: Iterable[Sequence[Sight]], reread: Reread, record: Path | None = None
) -> Iterator[Doubles]:
    """Measures the photos of moments.

    Args:
        moments: the photos of each moment, best score first.
        reread: reads the photos.
        record: JSON lines file of results, which is read first and extended; None for none.

    Yields:
        The measures (P, M) of each moment's photos, in order; NaN for a photo that can no longer be
        read or whose file has changed.
    """
    known = {} if record is None else _known(record)
    waiting = list(moments)
    left = [moment for moment in waiting if _key(moment) not in known]
    coming = _measured(left, reread)
    for moment in waiting:
        key = _key(moment)
        if key in known:
            yield np.array(known[key], np.float64).reshape(-1, len(NAMES))
            continue
        found = next(coming)
        if record is not None and np.isfinite(found).all():  # a missing photo may come back
            with record.open("a", encoding="ascii") as file:
                file.write(json.dumps([key, found.tolist()]) + "\n")
        yield found


def _measured(moments: Sequence[Sequence[Sight]], reread: Reread) -> Iterator[Doubles]:
    """Yields the measures of moments that are not recorded yet."""
    coming = reread(sight for moment in moments for sight in moment)
    for moment in moments:
        regions: Regions | None = None
        found = np.full((len(moment), len(NAMES)), np.nan)
        for place, sight in enumerate(moment):
            reading = next(coming)
            pixels_CHW = _pixels(reading, sight)
            if pixels_CHW is not None:
                regions = regions or Regions(pixels_CHW)
                found[place] = measured(regions.of(pixels_CHW))
            del reading, pixels_CHW
        yield found


def _pixels(reading: Reading | None, sight: Sight) -> Bytes | None:
    """The pixels of a photo; None if it is unreadable or has changed since it was scored."""
    if reading is None or reading.pixels is None or reading.sha256 != sight.sha256:
        return None
    return as_bytes(reading.pixels)


def _key(moment: Sequence[Sight]) -> str:
    """A hash of the paths and contents that the measures of a moment depend on."""
    parts = [f"{sight.path}\0{sight.sha256}" for sight in moment]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _known(record: Path) -> dict[str, list[list[float]]]:
    """Reads a record; truncated or damaged lines are ignored."""
    found = {}
    if record.exists():
        for line in record.read_bytes().splitlines():
            with suppress(ValueError, TypeError):
                key, measures = json.loads(line)
                found[key] = measures
    return found
