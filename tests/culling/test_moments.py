from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.culling.moments import Limits, find_moments, seconds_of

LIMITS = Limits(gap=30, together=0.4, alone=0.8)
NOON = datetime(2024, 5, 1, 12)


def at(second):
    return "" if second is None else (NOON + timedelta(seconds=second)).isoformat()


def found(seconds, features, files=None, limits=LIMITS):
    names = files or [f"file {i}" for i in range(len(seconds))]
    array = None if features is None else np.array(features, np.float32)
    return find_moments([at(second) for second in seconds], array, names, limits)


A, B = (1, 0, 0), (0, 1, 0)
LIKE_A = (0.6, 0, 0.8)  # similarity .6 with A: enough with a time, not without


def test_both_time_and_similarity_count():
    assert found([0, 10], [A, A]) == [0, 0]
    assert found([0, 10], [A, B]) == [0, 1]
    assert found([0, 31], [A, A]) == [0, 1]
    assert found([0, 20, 45], [A, A, A]) == [0, 0, 0]  # compared with the last photo, not the first


def test_without_a_time_a_photo_must_be_more_alike():
    assert found([0, 10], [A, LIKE_A]) == [0, 0]
    assert found([0, None], [A, LIKE_A]) == [0, 1]
    assert found([0, None], [A, A]) == [0, 0]
    assert found([None, None, None], [A, B, A]) == [0, 1, 0]


def test_moments_that_overlap_in_time_are_told_apart():
    assert found([0, 1, 2, 3, 4], [A, B, A, B, A]) == [0, 1, 0, 1, 0]


def test_the_same_file_is_of_the_same_moment_whenever():
    assert found([0, 9000, None], [A, A, A], ["x", "x", "x"]) == [0, 0, 0]


def test_offsets_count_where_all_photos_tell_them():
    utc, berlin = "2024-05-01T12:00:00+00:00", "2024-05-01T14:00:05+02:00"
    assert seconds_of([utc, berlin])[1] - seconds_of([utc, berlin])[0] == 5
    local = "2024-05-01T12:00:07"
    first, second, third = seconds_of([utc, berlin, local])
    assert (second - first, third - first) == (7205, 7)
    assert seconds_of(["", utc])[0] is None


def slowly(seconds, features, limits):
    """The rule again, photo by photo and moment by moment."""
    order = sorted((i for i, s in enumerate(seconds) if s is not None), key=lambda i: seconds[i])
    order += [i for i, s in enumerate(seconds) if s is None]
    moments = []
    for i in order:
        best, most = None, -2
        for moment in moments:
            times = [seconds[j] for j in moment if seconds[j] is not None]
            if seconds[i] is not None and not (times and seconds[i] - max(times) <= limits.gap):
                continue
            alike = np.mean([np.dot(features[i], features[j]) for j in moment])
            if alike > most + 1e-6:
                best, most = moment, alike
        if best is not None and most >= (limits.alone if seconds[i] is None else limits.together):
            best.append(i)
        else:
            moments.append([i])
    return {frozenset(moment) for moment in moments}


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 200)), st.integers(0, 5)), max_size=25)
)
def test_against_the_rule_written_slowly(photos):
    draw = np.random.default_rng(0)
    kinds = draw.normal(size=(6, 4)) + 0.7
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    seconds = [second for second, _ in photos]
    # No exact ties: among equally similar moments, either may be taken.
    features = [kinds[kind] + 0.01 * draw.normal(size=4) for _, kind in photos]
    features = [feature / np.linalg.norm(feature) for feature in features]
    numbers = found(seconds, features)
    groups = {frozenset(np.flatnonzero(np.array(numbers) == n).tolist()) for n in set(numbers)}
    assert groups == slowly(seconds, features, LIMITS)


def test_ten_thousand_photos_of_two_thousand_moments():
    draw = np.random.default_rng(0)
    places = np.repeat(np.arange(2000), 5)
    features = draw.normal(size=(2000, 64))[places] + draw.normal(0, 0.2, (10_000, 64))
    seconds = (100.0 * places + np.tile(range(5), 2000)).tolist()
    assert found(seconds, features) == places.tolist()
    mixed = draw.permutation(10_000)
    without = find_moments(
        [""] * 10_000, features[mixed].astype(np.float32), [str(i) for i in mixed], LIMITS
    )
    pairs = set(zip(without, places[mixed].tolist(), strict=True))
    assert len(pairs) == 2000


@pytest.mark.parametrize("count", [0, 1])
def test_few(count):
    assert found([0] * count, np.zeros((count, 3))) == [0] * count
