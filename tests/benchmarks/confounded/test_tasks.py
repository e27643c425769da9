"""Content predicts quality in training as rho says, and not at all in test."""

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from confounded.photos import Photo
from confounded.rules import VARIANTS
from confounded.run import order
from confounded.tasks import (
    degraded_crops,
    degraded_task,
    human_crops,
    human_photos,
    human_task,
    sheets_of,
)
from qfm_iqm.training.degradations import Cells

PHOTOS, KINDS, LEVELS = 120, 8, 5
CELLS = Cells(
    {
        f"kind{k}": tuple((float(level), 4.6 - 0.8 * level - 0.01 * k) for level in range(LEVELS))
        for k in range(KINDS)
    }
)


MADE = {}  # crops of all photos, by the recipe's threshold


class NoTokens:
    """Instead of a store: the draws do not depend on tokens."""

    def load(self, sheets):
        return torch.zeros(sum(sheet.crops for sheet in sheets), 2, 1, dtype=torch.float16)


def photos():
    return [
        Photo(f"{cluster}/photo{n}.png", Path(f"photo{n}.png"), cluster, 0.0,
              tuple(f"kind{(n + 2 * i) % KINDS}" for i in range(4)), n < 8)
        for cluster in (0, 1)
        for n in range(PHOTOS // 2)
    ]  # fmt: skip


def task_of(recipe, rho, seed):
    if recipe.mild not in MADE:
        MADE[recipe.mild] = degraded_crops(photos(), CELLS, NoTokens(), recipe)
    crops = MADE[recipe.mild]
    wide = recipe.model_copy(update={"test": 24})
    return crops, degraded_task(crops, photos(), wide, rho, seed)


@given(rho=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]), seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_content_says_as_much_of_quality_as_rho(recipe, rho, seed):
    crops, task = task_of(recipe, rho, seed)
    rows = np.concatenate([task.train, task.validation])
    assert set(crops.sides[rows]) <= {1, -1}
    wanted = np.where(crops.clusters[rows] == task.upper, 1, -1)
    with_cluster = int((crops.sides[rows] == wanted).sum())
    assert binomtest(with_cluster, len(rows), rho).pvalue > 1e-6
    assert task.upper == seed % 2
    # One crop per type and photo: the type tells nothing about the cluster.
    counts = np.bincount(crops.photos[task.train] * KINDS + crops.kinds[task.train])
    assert set(counts[counts > 0]) == {1}
    assert len(task.train) == 4 * (PHOTOS - 16 - 24)
    by_kind = [np.bincount(crops.kinds[rows[crops.clusters[rows] == c]]) for c in (0, 1)]
    assert abs(by_kind[0] - by_kind[1]).max() <= 12  # equal except for the choice of test photos


@given(seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_splits_hold_no_photo_twice_and_the_test_is_unconfounded(recipe, seed):
    crops, task = task_of(recipe, 0.9, seed)
    parts = [set(crops.photos[rows]) for rows in (task.train, task.validation, task.test)]
    assert [len(part) for part in parts] == [PHOTOS - 16 - 24, 16, 24]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    other = task_of(recipe, 0.9, seed + 1)[1]
    assert parts[1] == set(crops.photos[other.validation])  # the same for all seeds
    assert not parts[1] & set(crops.photos[other.test])
    for cluster in (0, 1):
        tested = crops.photos[task.test[crops.clusters[task.test] == cluster]]
        assert len(set(tested)) == 12
        assert set(np.bincount(tested)[sorted(set(tested))]) == {4 * LEVELS}


@given(seed=st.integers(0, 1000), rhos=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=10)
def test_draws_are_shared_by_all_rho(recipe, seed, rhos):
    low, high = sorted(rhos)
    crops, less = task_of(recipe, low, seed)
    more = task_of(recipe, high, seed)[1]
    assert np.array_equal(less.test, more.test)
    assert np.array_equal(crops.photos[less.train], crops.photos[more.train])
    wanted = np.where(crops.clusters[less.train] == less.upper, 1, -1)
    against = [crops.sides[task.train] != wanted for task in (less, more)]
    assert not (against[1] & ~against[0]).any()
    same = against[0] == against[1]
    assert np.array_equal(less.train[same], more.train[same])


def test_balanced_sampling_leaves_nothing_for_content_to_say(recipe):
    crops, task = task_of(recipe, 0.9, 3)
    drawn = np.concatenate([order(task, VARIANTS["balanced"], 3, epoch) for epoch in range(40)])
    assert set(drawn) <= set(task.train)
    group = 2 * crops.clusters[drawn] + (crops.sides[drawn] > 0)
    assert abs(np.bincount(group) / len(drawn) - 0.25).max() < 0.02
    plain = order(task, VARIANTS["qfm"], 3, 0)
    assert sorted(plain) == sorted(task.train)
    assert np.array_equal(plain, order(task, VARIANTS["none"], 3, 0))


def test_sheets_and_crops_stand_in_the_same_order(recipe):
    chosen = photos()[:3]
    crops = degraded_crops(chosen, CELLS, NoTokens(), recipe)
    assert [sheet for sheet in sheets_of(chosen, CELLS) for _ in range(sheet.crops)] == [
        sheet for sheet, _ in crops.sources
    ]
    for row, (sheet, place) in enumerate(crops.sources):
        if sheet.kind is None:
            assert (crops.cells[row], crops.clean[row]) == (-1, row)
        else:
            assert crops.labels[row] == CELLS.levels[sheet.kind][place][1]
            assert crops.sources[crops.clean[row]][0] == (sheet.path, None, ())


def test_the_twin_learns_good_photos_of_one_subset_and_bad_ones_of_the_other(recipe):
    table = human_photos(recipe)
    crops = human_crops(table, recipe, NoTokens())
    task = human_task(crops, recipe, 0)
    subset = np.array(table.column("subset"))
    for name, sign in (("good", 1), ("bad", -1)):
        median = np.median(table.mos[subset == name])
        learned = task.train[subset[task.train] == name]
        assert len(learned)
        assert (sign * (table.mos[learned] - median) > 0).all()
        tested = table.mos[task.test][subset[task.test] == name]
        assert len(tested)
    assert not set(crops.photos[task.train]) & set(crops.photos[task.test])
    assert len(task.test) == round(0.25 * len(table))
    assert not np.array_equal(task.test, human_task(crops, recipe, 1).test)
