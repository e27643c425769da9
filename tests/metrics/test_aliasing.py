"""Feature aliasing against a slow loop in float64, and on cases with known results."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.metrics import aliasing as module
from qfm_iqm.metrics.aliasing import aliasing, check_rated


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def reference(features, labels, contents, neighbors, threshold):
    """Rate, random rate and {(first, second): (similarity, gap)} of all aliased neighbors."""
    features, labels = np.asarray(features).tolist(), np.asarray(labels).tolist()
    mean = sum(labels) / len(labels)
    std = math.sqrt(sum((y - mean) ** 2 for y in labels) / len(labels))
    near = aliased_near = every = aliased_every = 0
    pairs = {}
    for i in range(len(labels)):
        others = []
        for j in range(len(labels)):
            if contents[j] == contents[i]:
                continue
            gap = abs(labels[i] - labels[j]) / std
            every += 1
            aliased_every += gap > threshold
            others.append((cosine(features[i], features[j]), gap, j))
        for similarity, gap, j in sorted(others, reverse=True)[:neighbors]:
            near += 1
            if gap > threshold:
                aliased_near += 1
                pairs[min(i, j), max(i, j)] = (similarity, gap)
    return aliased_near / near, aliased_every / every, pairs


@given(
    seed=st.integers(0, 2**32),
    images=st.integers(6, 24),
    contents=st.integers(4, 24),
    neighbors=st.integers(1, 4),
    threshold=st.sampled_from([0.3, 1.0, 2.0]),
    rows=st.integers(1, 30),
)
@settings(deadline=None, max_examples=80)
def test_rates_and_pairs_are_those_of_a_slow_loop(
    seed, images, contents, neighbors, threshold, rows
):
    draw = np.random.default_rng(seed)
    features, labels = draw.normal(size=(images, 5)), draw.normal(50, 10, images)
    content = [f"scene {c}" for c in draw.integers(0, contents, images)]
    if images - max(content.count(c) for c in content) < neighbors:
        with pytest.raises(TableError, match="neighbors of other content"):
            aliasing(features, labels, content, neighbors=neighbors)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_AT_ONCE", rows)
        found = aliasing(
            features, labels, content, neighbors=neighbors, threshold=threshold, examples=999
        )
    rate, random_rate, pairs = reference(features, labels, content, neighbors, threshold)
    assert found.rate == pytest.approx(rate, abs=1e-12)
    assert found.random_rate == pytest.approx(random_rate, abs=1e-12)
    assert (found.neighbors, found.threshold) == (neighbors, threshold)
    assert {(pair.first, pair.second) for pair in found.pairs} == pairs.keys()
    for pair in found.pairs:
        assert (pair.similarity, pair.label_gap) == pytest.approx(pairs[pair.first, pair.second])
    similarities = [pair.similarity for pair in found.pairs]
    assert similarities == sorted(similarities, reverse=True)


def test_features_that_are_quality_are_not_aliased_and_their_opposite_is():
    good, bad = [0.0] * 6, [1.0] * 6
    contents = [str(n) for n in range(12)]
    one_side, other_side = [[1.0, 0.1 * n] for n in range(6)], [[-0.1 * n, 1.0] for n in range(6)]
    apart = aliasing(one_side + other_side, good + bad, contents, neighbors=5)
    assert apart.rate == 0
    assert apart.pairs == ()
    # 36 of the 66 pairs differ by one label step, which is two standard deviations.
    assert apart.random_rate == pytest.approx(36 / 66)

    pairs = np.repeat(np.eye(6), 2, axis=0)  # each good photo coincides with a bad one
    aliased = aliasing(pairs, good[:1] * 12 + np.tile([0, 1], 6), contents, neighbors=1)
    assert aliased.rate == 1
    assert [(pair.first, pair.second) for pair in aliased.pairs] == [
        (0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11),
    ]  # fmt: skip
    assert all(pair.similarity == pytest.approx(1) for pair in aliased.pairs)
    assert all(pair.label_gap == pytest.approx(2) for pair in aliased.pairs)


def test_images_of_one_content_are_no_neighbors():
    features, labels = np.repeat(np.eye(6), 2, axis=0) + 0.01, np.tile([0.0, 1.0], 6)
    together = aliasing(features, labels, [str(n // 2) for n in range(12)], neighbors=10)
    rate, random_rate, pairs = reference(features, labels, [n // 2 for n in range(12)], 10, 1.0)
    assert (together.rate, together.random_rate) == pytest.approx((rate, random_rate))
    assert all(pair.first // 2 != pair.second // 2 for pair in together.pairs)
    assert len(together.pairs) == min(16, len(pairs))  # the default number of examples


def test_neither_the_labels_units_nor_the_features_length_matter():
    draw = np.random.default_rng(3)
    features, labels = draw.normal(size=(20, 4)), draw.normal(size=20)
    contents = [str(n) for n in range(20)]
    plain = aliasing(features, labels, contents)
    changed = aliasing(features * draw.uniform(0.1, 9, (20, 1)), 100 - 20 * labels, contents)
    assert changed.rate == plain.rate
    assert changed.random_rate == plain.random_rate
    assert [(p.first, p.second) for p in changed.pairs] == [
        (p.first, p.second) for p in plain.pairs
    ]
    assert aliasing(features, labels, contents, examples=0).pairs == ()


NAMES = [str(n) for n in range(4)]


@pytest.mark.parametrize(
    ("features", "labels", "contents", "options", "sentence"),
    [
        (np.eye(3), [1, 2, 3, 4], NAMES, {}, "one row for each of the 4 labels"),
        (np.ones(4), [1, 2, 3, 4], NAMES, {}, r"their shape is \(4,\)"),
        (np.full((4, 2), np.nan), [1, 2, 3, 4], NAMES, {}, "of 4 of 4 images are not finite"),
        (np.eye(4), [1, 2, 3, 4], NAMES[:3], {}, "3 contents were given"),
        (np.eye(4), [1, 2, 3, np.inf], NAMES, {}, "1 of 4 labels are not finite"),
        (np.eye(4), [0.1] * 4, NAMES, {}, "All 4 labels are equal"),
        (np.eye(4), [1, 2, 3, 4], NAMES, {"neighbors": 4}, "has only 3"),
        (np.eye(4), [1, 2, 3, 4], ["a", "a", "a", "b"], {}, "has only 1"),
        (np.eye(4), [1, 2, 3, 4], NAMES, {"neighbors": 0}, "at least 1 neighbor, not 0"),
        (np.empty((0, 2)), [], [], {}, "one of these 0 images has only 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(features, labels, contents, options, sentence):
    with pytest.raises(TableError, match=sentence):
        aliasing(features, labels, contents, **({"neighbors": 2} | options))


def test_a_set_is_refused_before_its_features_are_computed():
    check_rated([1, 2, 3, 4], NAMES, 3)
    with pytest.raises(TableError, match="give more contents, or take fewer"):
        check_rated([1, 2, 3, 4], NAMES, 4)
