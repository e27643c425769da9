"""What a table contains, what it refuses, and where it finds its images."""

import numpy as np
import pytest

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"names": ()}, "no rows"),
        ({"names": ("a", "b"), "mos": np.ones(3)}, "'mos': 3"),
        ({"names": ("a",), "mos": np.ones((1, 1))}, "1-D"),
        ({"names": ("a",), "contents": ("x", "y")}, "'contents': 2"),
        ({"names": ("a",), "columns": {"subset": ()}}, "'subset': 0"),
        ({"names": ("a", "a")}, "more than one row"),
        ({"names": ("a", "b"), "mos": np.array([1, np.inf])}, "1 labels are NaN .*row 2"),
    ],
)
def test_a_table_cannot_be_built_wrong(columns, message):
    with pytest.raises(TableError, match=message):
        RatedTable(**columns)


def table_of_four():
    return RatedTable(
        names=("a", "b", "c", "d"),
        mos=np.arange(4.0),
        contents=("x", "x", "y", "z"),
        columns={"subset": ("s2", "s1", "s2", "s1")},
    )


def test_labels_are_a_copy_that_cannot_change():
    labels = np.arange(2.0)
    table = RatedTable(names=("a", "b"), mos=labels)
    labels[0] = 9
    assert table.mos[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        table.mos[0] = 1


def test_select_keeps_the_order_asked_for():
    part = table_of_four().select([2, 0])
    assert part.names == ("c", "a") and part.mos.tolist() == [2, 0]
    assert part.contents == ("y", "x") and part.columns["subset"] == ("s2", "s2")
    unlabeled = RatedTable(names=("a", "b")).select(np.array([1]))
    assert unlabeled.names == ("b",) and unlabeled.mos is None


@pytest.mark.parametrize("indices", [[], [4], [-1], [0, 0], [0.0], [True, False, True, False]])
def test_select_refuses(indices):
    with pytest.raises(TableError):
        table_of_four().select(indices)


def test_group():
    groups = table_of_four().group("Subset")
    assert list(groups) == ["s1", "s2"]
    assert groups["s1"].tolist() == [1, 3] and groups["s2"].tolist() == [0, 2]
    scenes = RatedTable(names=("a", "b", "c"), contents=("y", "x", "y")).group("content")
    assert {name: rows.tolist() for name, rows in scenes.items()} == {"x": [1], "y": [0, 2]}
    with pytest.raises(TableError, match=r"no column 'scene'; .* its other columns are subset"):
        table_of_four().group("scene")
    with pytest.raises(TableError, match="1 are blank \\(row 2\\)"):
        RatedTable(names=("a", "b"), columns={"subset": ("x", "")}).group("subset")


def test_paths_match_without_regard_to_case(tmp_path):
    (tmp_path / "Images").mkdir()
    for name in ("A.JPG", "b.jpg"):
        (tmp_path / "Images" / name).touch()
    table = RatedTable(names=("images/b.jpg", "images/a.jpg"))
    found = table.paths(tmp_path)
    assert [path.name for path in found] == ["b.jpg", "A.JPG"]
    assert all(path.is_file() for path in found)


def test_paths_prefer_the_exact_name(tmp_path):
    for name in ("a.jpg", "A.jpg"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell letter case apart")
    assert [p.name for p in RatedTable(names=("A.jpg", "a.jpg")).paths(tmp_path)] == [
        "A.jpg",
        "a.jpg",
    ]
    with pytest.raises(TableError, match="1 of the 1 names"):
        RatedTable(names=("a.JPG",)).paths(tmp_path)


def test_paths_miss_nothing_in_silence(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder").mkdir()
    names = ("a.jpg", "b.jpg", "folder", "sub/c.jpg", "d" * 5000)
    with pytest.raises(TableError, match=r"4 of the 5 names .*\(b.jpg, folder, sub/c.jpg, \.\.\."):
        RatedTable(names=names).paths(tmp_path)
    with pytest.raises(TableError, match="There is no image folder"):
        RatedTable(names=names).paths(tmp_path / "none")


def test_two_names_for_one_file_are_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    if (tmp_path / "A.JPG").exists():
        pytest.skip("this file system does not tell letter case apart")
    with pytest.raises(TableError, match=r"2 names .* mean the same file"):
        RatedTable(names=("a.jpg", "A.JPG")).paths(tmp_path)
