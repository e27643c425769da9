"""Splits: by content, complete, and the same on every machine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import SPLITS, Split, official_split, split_by_content
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError

# Third-party data, if any, is beside the repository; none of it is copied here.
SHARED = Path(__file__).parents[2].parent / "shared"

# The table of the frozen hash: 12 images of 6 contents, two each.
TWELVE = """
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.datasets.table import RatedTable
table = RatedTable(
    names=tuple(f"img_{i}.png" for i in range(12)),
    contents=tuple(f"scene_{i // 2}" for i in range(12)),
)
split = split_by_content(table, test=0.25, validation=0.2, seed=0)
"""
FROZEN = "120e7525b486348363224b6a48d4d4900f715ee8a5194ae72e5c1102c823fb46"


def twelve():
    scope = {}
    exec(TWELVE, scope)
    return scope["table"], scope["split"]


def test_the_frozen_split():
    _, split = twelve()
    # round(0.25 * 12) = 3 images requested, which need two contents of two; round(0.2 * 12) = 2.
    assert split.test == ("img_4.png", "img_5.png", "img_8.png", "img_9.png")
    assert split.validation == ("img_6.png", "img_7.png")
    assert len(split.train) == 6
    assert split.sha256 == FROZEN


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_the_same_in_every_process(hash_seed):
    result = subprocess.run(
        [sys.executable, "-c", TWELVE + "print(split.sha256)"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == FROZEN


@given(
    contents=st.lists(st.sampled_from([f"c{i}" for i in range(12)]), min_size=12, max_size=60),
    seed=st.integers(0, 2**40),
    shares=st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4)),
    shuffle=st.randoms(),
)
@settings(deadline=None, max_examples=60)
def test_disjoint_by_content_complete_and_independent_of_row_order(contents, seed, shares, shuffle):
    names = [f"{i}.png" for i in range(len(contents))]
    table = RatedTable(names=tuple(names), contents=tuple(contents))
    test, validation = shares
    try:
        split = split_by_content(table, test=test, validation=validation, seed=seed)
    except TableError as error:
        assert "would be empty" in str(error)
        assume(False)
    assert sorted(split.train + split.validation + split.test) == sorted(names)
    content_of = dict(zip(names, contents, strict=True))
    of_part = [{content_of[name] for name in split.names(part)} for part in SPLITS]
    assert sum(map(len, of_part)) == len(set(contents))
    assert len(split.test) >= round(test * len(names))
    assert len(split.validation) >= round(validation * len(names))

    order = list(range(len(names)))
    shuffle.shuffle(order)
    again = split_by_content(table.select(order), test=test, validation=validation, seed=seed)
    assert again == split and again.sha256 == split.sha256
    assert Split.from_text(split.to_text()) == split


def test_seeds_give_different_splits():
    table = RatedTable(names=tuple(f"{i}" for i in range(100)))
    splits = [split_by_content(table, seed=seed) for seed in range(10)]
    assert len({split.test for split in splits}) == 10
    assert all((len(s.test), len(s.validation), len(s.train)) == (20, 10, 70) for s in splits)


def test_a_share_of_nothing_asks_for_no_part():
    table = RatedTable(names=tuple(f"{i}" for i in range(20)))
    split = split_by_content(table, test=0, validation=0.25)
    assert (len(split.train), len(split.validation), len(split.test)) == (15, 5, 0)
    assert split.indices(table)["test"].size == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": 1.0}, "below 1, but 1.0 and 0.1"),
        ({"test": -0.1}, "at least 0"),
        ({"validation": float("nan")}, "at least 0"),
        ({"test": 0.5, "validation": 0.5}, "leave images to train on"),
        ({"seed": -1}, "seed of a split must be 0 or more, not -1"),
        ({"test": 0.01}, "test would be empty .12 images of 6 contents"),
        ({"test": 0.6, "validation": 0.3}, "train would be empty"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(TableError, match=message):
        split_by_content(twelve()[0], **arguments)


def test_one_content_cannot_be_split():
    table = RatedTable(names=("a", "b", "c", "d", "e"), contents=("x",) * 5)
    with pytest.raises(TableError, match=r"validation and train would be empty .* of 1 contents"):
        split_by_content(table, validation=0.2)


def test_indices_follow_the_sorted_names_whatever_the_row_order():
    table, split = twelve()
    shuffled = table.select(np.random.default_rng(0).permutation(12))
    for one in (table, shuffled):
        for part, rows in split.indices(one).items():
            assert tuple(one.names[row] for row in rows) == split.names(part)


def test_indices_refuse_another_table():
    table, split = twelve()
    other = RatedTable(names=(*table.names[1:], "new.png"))
    with pytest.raises(
        TableError, match=r"1 are only in the split \(img_0.png\) and 1 only in the"
    ):
        split.indices(other)


def test_text():
    split = Split(train=("b", "a c"), validation=("d\te",), test=("f",), rule="by hand")
    text = "# rule: by hand\ntrain\ta c\ntrain\tb\nvalidation\td\te\ntest\tf\n"
    assert split.train == ("a c", "b")
    assert split.to_text() == text
    assert Split.from_text(text.replace("\n", "\r\n")) == split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train\ta\n", "none"),
        ("# rule: r\ntrain a\n", "line 2 is 'train a'"),
        ("# rule: r\ntraining\ta\n", "line 2"),
        ("# rule: r\ntrain\t\n", "line 2"),
        ("# rule: r\ntrain\ta\ntest\ta\n", "1 names are repeated"),
    ],
)
def test_text_that_is_refused(text, message):
    with pytest.raises(TableError, match=message):
        Split.from_text(text)


def test_a_line_break_in_a_name_is_refused():
    with pytest.raises(TableError, match="line break"):
        Split(train=("a\nb",), validation=(), test=(), rule="r")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("split", ("train", "Validation", "TEST", "train")),
        ("set", ("training", "val", "test", "training")),
        ("split", ("0", "1", "2", "0")),
    ],
)
def test_official(column, values):
    split = official_split(RatedTable(names=("a", "b", "c", "d"), columns={column: values}))
    assert (split.train, split.validation, split.test) == (("a", "d"), ("b",), ("c",))
    assert f"'{column}'" in split.rule


def test_official_without_validation():
    split = official_split(RatedTable(names=("a", "b"), columns={"set": ("test", "train")}))
    assert split == Split(("b",), (), ("a",), split.rule)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"subset": ("x", "y")},
            r"needs a column 'split' or 'set', .*: subset; .* split by content",
        ),
        ({"split": ("train", "fold3")}, "also holds: 'fold3'"),
        ({"split": ("train", "")}, "also holds: ''"),
        ({"split": ("train", "training")}, "every image into 'train', 'training'"),
    ],
)
def test_official_that_is_refused(columns, message):
    with pytest.raises(TableError, match=message):
        official_split(RatedTable(names=("a", "b"), columns=columns))


@pytest.mark.skipif(not (SHARED / "data/biq2021").is_dir(), reason="BIQ2021 is not here")
def test_biq2021():
    table = read_table(SHARED / "data/biq2021/labelled.csv")
    split = split_by_content(table)
    rows = split.indices(table)
    # A content has few images, so each split exceeds its share by few.
    assert 1000 <= rows["test"].size < 1010 and 500 <= rows["validation"].size < 510
    contents = [{table.contents[i] for i in part} for part in rows.values()]
    assert sum(map(len, contents)) == 4919


@pytest.mark.skipif(not (SHARED / "labels").is_dir(), reason="KonIQ-10k's tables are not here")
def test_koniq_official_split_in_both_spellings():
    own = official_split(read_table(SHARED / "labels/koniq10k_distributions_sets.csv"))
    assert [len(own.names(part)) for part in SPLITS] == [7058, 1000, 2015]
    pyiqa = official_split(read_table(SHARED / "labels/pyiqa_meta_info/KonIQ10k.csv"))
    assert [pyiqa.names(part) for part in SPLITS] == [own.names(part) for part in SPLITS]
