import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.scoring.pairing import pair, repeated_paths
from qfm_iqm.scoring.tables import ScoreTable


def table(*paths, **columns):
    return ScoreTable("t", {"path": list(paths), "score": [1.0] * len(paths), **columns})


@pytest.mark.parametrize(
    ("first", "second", "rows", "rule"),
    [
        (("x/a.jpg", "x/b.jpg"), ("x/b.jpg", "x/a.jpg"), [(0, 1), (1, 0)], "path"),
        (
            ("old/1/a.jpg", "old/2/a.jpg"),
            ("new/2/a.jpg", "new/1/a.jpg"),
            [(0, 1), (1, 0)],
            "path within the folder",
        ),
        (
            ("o/1/a.png", "o/2/b.png"),
            ("n/1/a.webp", "n/2/b.jpg"),
            [(0, 0), (1, 1)],
            "name without ending",
        ),
        (("a.jpg",), ("b.jpg",), [], "path"),
        ((), ("b.jpg",), [], "path"),
    ],
)
def test_the_rule_that_pairs_most(first, second, rows, rule):
    found = pair(table(*first), table(*second))
    assert (found.rows, found.rule) == (rows, rule)
    assert found.only_first == [i for i in range(len(first)) if i not in dict(rows)]
    assert found.only_second == [i for i in range(len(second)) if i not in dict(rows).values()]


def test_renamed_files_are_known_by_their_content():
    found = pair(table("x/1.jpg", "y/2.jpg", sha256=["p", "q"]), table("z.jpg", sha256=["q"]))
    assert (found.rows, found.rule) == ([(1, 0)], "content")


def test_a_key_that_comes_twice_pairs_nothing():
    found = pair(table("a.jpg", "a.jpg", "b.jpg"), table("a.jpg", "b.jpg"))
    assert found.rows == [(2, 1)]


def test_paths_that_come_twice_are_counted():
    twice = ScoreTable("two.csv", {"path": ["a", "a", "b", "b", "b", "c"]})
    once, one = ScoreTable("one.csv", {"path": ["a"]}), ScoreTable("t.csv", {"path": ["a", "a"]})
    assert repeated_paths(once) == ""
    assert repeated_paths(once, twice) == "2 paths come more than once in two.csv"
    assert repeated_paths(one, twice) == (
        "1 path comes more than once in t.csv and 2 paths come more than once in two.csv"
    )


names = st.lists(st.text("ab/.", min_size=1, max_size=5), max_size=8)


@given(names, names)
def test_every_row_is_in_one_place(first, second):
    found = pair(table(*first), table(*second))
    assert sorted([a for a, _ in found.rows] + found.only_first) == list(range(len(first)))
    assert sorted([b for _, b in found.rows] + found.only_second) == list(range(len(second)))
