import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qfm_iqm.scoring.pairing import candidates, comparable, pair, pair_paths, repeated_paths
from qfm_iqm.scoring.table import ScoreTable


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
            "name without extension",
        ),
        (
            (r"C:\old\1\a.jpg", r"C:\old\2\a.jpg"),
            ("/new/2/a.jpg", "/new/1/a.jpg"),
            [(0, 1), (1, 0)],
            "path within the folder",
        ),
        (
            (r"C:\o\a.png", r"C:\o\b.png"),
            (r"D:\n\a.webp", r"D:\n\b.jpg"),
            [(0, 0), (1, 1)],
            "name without extension",
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
    assert repeated_paths(once, twice) == "2 paths occur more than once in two.csv"
    assert repeated_paths(one, twice) == (
        "1 path occurs more than once in t.csv and 2 paths occur more than once in two.csv"
    )


names = st.lists(st.text("ab/.", min_size=1, max_size=5), max_size=8)


@given(names, names)
def test_every_row_is_in_one_place(first, second):
    found = pair(table(*first), table(*second))
    assert sorted([a for a, _ in found.rows] + found.only_first) == list(range(len(first)))
    assert sorted([b for _, b in found.rows] + found.only_second) == list(range(len(second)))


# ---- by the ending of paths ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "score"),
    [
        ("jpeg/a.png", "/data/x/jpeg/a.png"),
        ("jpeg/a.png", "./jpeg/../jpeg//a.png"),
        ("jpeg/a.png", "C:\\data\\jpeg\\a.png"),
        ("jpeg\\a.png", "jpeg/a.png"),
        ("\\\\server\\share\\jpeg\\a.png", "share/jpeg/a.png"),
        ("a.png", "x/a.png"),
        ("x/a.png", "a.png"),
        ("jpeg/a b.png", "https://host/x/jpeg/a%20b.png?signed=1/2#top"),
        ("jpeg/a%20b.png", "s3://bucket/jpeg/a%20b.png"),
        ("img?id=5", "img?id=5"),
        ("https://host/img?id=5", "https://host/img?id=5"),
        ("caf\u00e9.png", "x/cafe\u0301.png"),  # as macOS spells it
    ],
)
def test_paths_of_one_image(label, score):
    assert pair_paths([label], [score]) == pair_paths([score], [label]) == [(0, 0)]


@pytest.mark.parametrize(
    ("label", "score"),
    [
        ("blur/a.png", "jpeg/a.png"),
        ("x/jpeg/a.png", "y/jpeg/a.png"),
        ("g/a.png", "jpeg/a.png"),
        ("a.png", "x/ba.png"),
        ("a.png", "x/a.PNG"),
        ("a.png", "x/A.png"),
        ("a.png", "x/a.jpg"),
        ("a.png", "a.png/b.png"),
        ("", "."),
        (".", "/"),
    ],
)
def test_paths_of_two_images(label, score):
    assert pair_paths([label], [score]) == []


def test_the_longest_ending_decides_and_a_path_serves_once():
    labels = [f"{kind}/{n}.png" for kind in ("blur", "jpeg", "noise") for n in range(3)]
    scored = [f"jpeg/{n}.png" for n in range(3)]
    assert pair_paths(labels, scored) == [(3, 0), (4, 1), (5, 2)]
    # Without a folder, each score fits three images.
    assert pair_paths(labels, ["0.png", "1.png", "2.png"]) == []
    assert pair_paths(["a.png"], ["x/a.png", "y/a.png"]) == []
    assert pair_paths(["a.png", "x/a.png"], ["img/x/a.png", "img/a.png"]) == [(0, 1), (1, 0)]
    # A match by elimination is no proof: 1.png need not be in a/.
    assert pair_paths(["a/1.png", "b/1.png"], ["1.png", "b/1.png"]) == [(1, 1)]
    assert pair_paths(["a.png"], ["a.png", "x/a.png"]) == [(0, 0)]


def test_a_path_that_comes_twice_pairs_nothing():
    assert pair_paths(["a.png"], ["x/a.png", "x\\a.png"]) == []
    assert pair_paths(["a.png", "./a.png", "b.png"], ["x/a.png", "x/b.png"]) == [(2, 1)]
    web = ["https://host/img?id=5", "https://host/img?id=6"]
    assert pair_paths(web, web[::-1]) == [(0, 1), (1, 0)]


def test_who_else_could_be_meant():
    others = ["x/a.png", "x/b.png", "y/jpeg/a.png", "a.png"]
    assert candidates("jpeg/a.png", others) == ["y/jpeg/a.png", "a.png"]
    assert candidates("jpeg/c.png", others) == []


relative = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
path_sets = st.lists(relative, max_size=9, unique=True)


def reference(first, second):
    """By comparing each path with each, until no more can be decided."""
    sides = [[tuple(path.split("/")) for path in side] for side in (first, second)]

    def common(one, other):
        """Parts in common, if one path ends with the other."""
        short, long = sorted((one, other), key=len)
        return len(short) if long[len(long) - len(short) :] == short else 0

    known = dict.fromkeys(set(sides[0]) & set(sides[1]), "same")
    pairs = {(path, path): "same" for path in known}
    while True:
        more = {}
        for a in sides[0]:
            for b in sides[1]:
                if not common(a, b) or len(a) == len(b) or (a, b) in pairs:
                    continue
                side = int(len(a) > len(b))  # the side of the shorter path
                short, long = (b, a) if side else (a, b)
                folders = (side, long[: -len(short)])
                rivals = [r for r in sides[1 - side] if common(short, r) == len(short)]
                same = [
                    r
                    for r in rivals
                    for pair, theirs in pairs.items()
                    if pair[1 - side] == r and theirs == folders
                ]
                better = [s for s in sides[side] if common(s, long) > len(short)]
                if not better and set(rivals) - set(same) == {long}:
                    more[a, b] = folders
        if not more:
            break
        pairs |= more
    return sorted((sides[0].index(a), sides[1].index(b)) for a, b in pairs)


# The score shares more with a label that could not be decided.
@example(["a", "b/a", "c/b/a"], ["d/b/a", "d/b/c/b/a"])
@example(["a", "b/c/a"], ["c/a", "c/b/c/a"])
@given(path_sets, path_sets)
def test_pairs_are_those_of_a_slow_reference(first, second):
    found = pair_paths(first, second)
    assert found == reference(first, second)
    assert len(found) == len({a for a, _ in found}) == len({b for _, b in found})
    assert sorted((a, b) for b, a in pair_paths(second, first)) == found


@given(path_sets, st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_folder_before_all_paths_changes_nothing(names, depth, draw):
    order = list(range(len(names)))
    draw.shuffle(order)
    scored = ["root/" * depth + names[i] for i in order]
    assert pair_paths(scored, names) == list(enumerate(order))


@given(relative, st.randoms(use_true_random=False))
def test_a_path_is_compared_however_it_is_spelled(path, draw):
    before, after = ("", "", "./", "/", "x/../"), ("/", "\\")
    spelled = "".join(draw.choice(before) + part + draw.choice(after) for part in path.split("/"))
    assert comparable(spelled) == path


def test_many_paths_of_one_name_are_no_product():
    """Comparing each with each would take two billion comparisons."""
    count = 30_000
    names = [f"{n}/a.png" for n in range(count)]
    draw = random.Random(1)
    order = draw.sample(range(count), count)
    assert pair_paths(["a.png"], names) == []
    assert pair_paths([f"/data/{names[n]}" for n in order], names) == list(enumerate(order))
