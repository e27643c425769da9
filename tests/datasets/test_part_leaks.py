import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.datasets.leakage import near_duplicates
from qfm_iqm.datasets.part_leaks import (
    file_prints,
    find_part_leaks,
    image_prints,
    read_part_leaks,
    refuse_part_leaks,
    write_part_leaks,
)
from qfm_iqm.datasets.splits import Split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError

from ..trees import photo

NAMES = tuple(f"{n}.png" for n in range(9))
SPLIT = Split(NAMES[:5], NAMES[5:7], NAMES[7:], "by hand")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        photo(tmp_path / name, 100 + number, 0.1)
    return tmp_path


def leaks_of(folder, contents=NAMES):
    table = RatedTable(NAMES, np.arange(9), contents)
    return find_part_leaks(table, SPLIT, image_prints(table.paths(folder)))


def test_different_images_do_not_leak(folder):
    assert leaks_of(folder) == []
    refuse_part_leaks([])


def test_each_kind_of_leak_is_found_under_its_surest_reason(folder):
    shutil.copy(folder / "0.png", folder / "7.png")  # train and test: the same bytes
    with Image.open(folder / "5.png") as image:  # validation and test: smaller, and darker
        image.resize((40, 40)).point(lambda v: int(0.9 * v)).save(folder / "8.png")
    contents = (*NAMES[:1], "same", *NAMES[2:6], "same", "0.png", NAMES[8])
    found = leaks_of(folder, contents)
    assert [leak[1:6] for leak in found] == [
        ("train", "1.png", "validation", "6.png", "content"),
        ("train", "0.png", "test", "7.png", "content"),
        ("validation", "5.png", "test", "8.png", "near-duplicate"),
    ]
    contents = (*NAMES[:1], "same", *NAMES[2:6], "same", *NAMES[7:])
    assert leaks_of(folder, contents)[1].reason == "file"


def test_near_duplicates_are_those_of_the_slow_loop(folder):
    for number in (6, 8):
        photo(folder / NAMES[number], 100 + number - 5, 0.3)
    table = RatedTable(NAMES, np.arange(9))
    prints = image_prints(table.paths(folder))
    bits = np.unpackbits(prints.hashes_N8, axis=1).astype(int)
    parts = {name: part for part in ("train", "validation", "test") for name in SPLIT.part(part)}
    expected = {
        (i, j)
        for i in range(9)
        for j in range(i + 1, 9)
        if parts[NAMES[i]] != parts[NAMES[j]] and np.abs(bits[i] - bits[j]).sum() <= 10
    }
    found = find_part_leaks(table, SPLIT, prints, max_distance=10)
    assert {(NAMES.index(leak.image), NAMES.index(leak.other)) for leak in found} == expected
    assert near_duplicates(prints.hashes_N8, prints.hashes_N8, max_distance=0)


def test_leaks_are_refused_with_counts_and_listed(folder, tmp_path):
    found = leaks_of(folder, ("same",) * 6 + NAMES[6:8] + ("same",))
    with pytest.raises(
        TableError, match=r"^11 pairs .* of fold 0 \(11 by content\): 0\.png \(train\) ~ 5.png"
    ):
        refuse_part_leaks(found)
    listed = tmp_path / "leaks.csv"
    write_part_leaks(found, listed)
    with pytest.raises(TableError, match=r"; all: .*leaks\.csv\."):
        refuse_part_leaks(found, listed)
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    assert rows[0]["reason"] == "content"
    assert read_part_leaks(listed) == found
    listed.write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match=r"leaks\.csv is no list of leaks"):
        read_part_leaks(listed)


def test_without_images_contents_alone_are_compared():
    table = RatedTable(NAMES, np.arange(9), ("a",) * 9)
    assert len(find_part_leaks(table, SPLIT)) == 5 * 2 + 5 * 2 + 2 * 2
    with pytest.raises(TableError, match="must hold the same images"):
        find_part_leaks(table.select([0, 1]), SPLIT)


def test_an_image_that_cannot_be_read_ends_the_comparison(folder):
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(TableError, match=r"1 images cannot be compared, .*3\.png"):
        leaks_of(folder)


def test_files_are_compared_without_decoding_them(tmp_path):
    for name, content in zip(NAMES, (b"aa", b"ab", b"aa", b"b", b"ccc"), strict=False):
        (tmp_path / name).write_bytes(content)
    keys = file_prints([tmp_path / name for name in NAMES[:5]]).files
    assert keys[0] == keys[2]
    assert len(set(keys)) == 4
    with pytest.raises(TableError, match=r"5\.png cannot be read"):
        file_prints([tmp_path / "5.png"])
