"""Augmented training photos, and their labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.image.preprocess import Preprocessing, resized
from qfm_iqm.training.augmentation import Augmentation
from qfm_iqm.training.degradations import CLEAN, Cells, lowered
from qfm_iqm.training.recipe_schema import AugmentConfig

SIZE = 48
SHOWN = Preprocessing(crop=SIZE, shorter_side=SIZE, resample="bilinear")


@pytest.fixture(scope="module")
def photo():
    """Smooth on the left, fine texture on the right; no symmetry."""
    draw = np.random.default_rng(3)
    rows, columns = np.mgrid[0:90, 0:120]
    base = 128 + 60 * np.sin(rows / 17) + 50 * columns / 120
    texture = draw.normal(0, 30, (90, 120, 3)) * (columns > 60)[..., None]
    return (base[..., None] + texture).clip(0, 255).astype(np.uint8)


def augmentation(cells=None, flip=False, **options):
    return Augmentation(AugmentConfig().model_copy(update=options), cells, SHOWN, flip=flip)


def augmented(photo, label=0.8, *, seed=0, degraded=False, **options):
    draw = np.random.default_rng(seed)
    return augmentation(**options)(photo, label, draw, degraded=degraded)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 150), st.integers(1, 150), st.integers(0, 1000), st.floats(0.3, 1),
)  # fmt: skip
def test_any_photo_fills_a_crop_and_keeps_its_label(height, width, seed, zoom):
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels, label = augmented(photo, 0.7, seed=seed, smaller=0.3, framed=0.3, zoom=zoom, flip=True)
    assert pixels.shape == (3, SIZE, SIZE)
    assert pixels.dtype == np.uint8
    assert label == 0.7


def test_nothing_asked_is_the_models_own_view(photo):
    square = photo[:, :90]
    expected = resized(square, (SIZE, SIZE), "bilinear").transpose(2, 0, 1)
    found, _ = augmented(square)
    assert np.array_equal(found, expected)
    views = {augmented(square, seed=seed, flip=True)[0].tobytes() for seed in range(20)}
    assert views == {expected.tobytes(), np.ascontiguousarray(expected[..., ::-1]).tobytes()}


def test_a_frame_is_plain_and_all_around(photo):
    seen = set()
    for seed in range(30):
        found, label = augmented(photo[:, :90], seed=seed, framed=0.5)
        edges = [found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]]
        flat = all((edge == edge[:, :1]).all() for edge in edges)
        seen.add(flat)
        assert label == 0.8
    assert seen == {True, False}


def test_a_smaller_copy_is_reflected_and_not_enlarged(photo):
    small = photo[:20, :24]  # smaller than a crop: at most halved, never scaled up
    found, _ = augmented(small)
    assert np.array_equal(found[:, :20, :24], small.transpose(2, 0, 1))
    assert np.array_equal(found[:, 20:40, :24], small.transpose(2, 0, 1)[:, ::-1])


def test_a_degraded_photo_has_the_label_of_its_cell(photo):
    cells = Cells({"low contrast": ((0.3, 2.8), (0.1, 1.0))})
    labels = set()
    for seed in range(40):
        found, label = augmented(photo, seed=seed, degraded=True, cells=cells, floor=0.2)
        plain, _ = augmented(photo, seed=seed)
        assert found.std() < 0.45 * plain.std()
        labels.add(round(label, 6))
        assert 0.2 <= label <= lowered(0.8, (2.8 - 1) / (CLEAN - 1), 0.2) + 1e-9
    assert {0.2, round(lowered(0.8, 1.8 / (CLEAN - 1), 0.2), 6)} < labels  # both cells, and between


def test_two_degradations_leave_what_the_second_leaves_of_the_first(photo):
    cells = Cells({"jpeg": ((30.0, 2.8), (20.0, 2.8))})
    share = 1.8 / (CLEAN - 1)
    (once,) = {augmented(photo, seed=s, degraded=True, cells=cells)[1] for s in range(9)}
    assert once == pytest.approx(0.8 * share)
    labels = {
        round(augmented(photo, seed=s, degraded=True, cells=cells, sequences=0.5)[1], 9)
        for s in range(30)
    }
    assert labels == {round(0.8 * share, 9), round(0.8 * share**2, 9)}


def test_the_same_draw_gives_the_same(photo):
    cells = Cells({"white noise": ((0.01, 3.0), (0.05, 2.0))})
    options = {"degraded": True, "cells": cells, "zoom": 0.5, "flip": True}
    first, again, other = (augmented(photo, seed=seed, **options)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_pair_is_a_photo_as_it_is_and_degraded_in_the_same_view(photo):
    tone = Cells({"darken": ((0.2, 2.8), (0.21, 2.8))})  # changes each pixel independently
    shown = augmentation(tone, flip=True, zoom=0.5, floor=0.2, framed=0.5, smaller=0.5)
    views = set()
    for seed in range(20):
        pairs = [shown.pair(photo, 0.8, np.random.default_rng(seed)) for _ in range(2)]
        (plain, own), (dark, lower) = pairs[0]
        assert own == 0.8
        assert lower == pytest.approx(lowered(0.8, 1.8 / (CLEAN - 1), 0.2))
        assert dark.mean() < plain.mean() - 5
        assert np.corrcoef(plain.ravel(), dark.ravel())[0, 1] > 0.97
        assert all(np.array_equal(*both) for both in zip(pairs[0][0], pairs[1][0], strict=True))
        views.add(plain.tobytes())
    assert len(views) == 20


def test_kinds_may_be_drawn_three_times_as_often(photo):
    cells = Cells(dict.fromkeys(("jpeg", "webp", "avif"), ((10.0, 2.8), (9.0, 2.8))))
    drawn = [cells.draw(np.random.default_rng(seed), often=("webp",)).kind for seed in range(1000)]
    assert 0.55 < drawn.count("webp") / len(drawn) < 0.65
    assert 0.17 < drawn.count("avif") / len(drawn) < 0.23
    with pytest.raises(TableError, match="no opinions of 'jitter'"):
        augmentation(cells, often=("jitter",))
