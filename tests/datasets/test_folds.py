import csv
import hashlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.folds import (
    choose_split,
    count_arniqa,
    official_fold,
    read_arniqa,
    read_liqe,
    read_split,
    write_folds,
)
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import SPLITS, Split
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError

LABELS = Path(__file__).parents[2].parent / "shared/labels"
real = pytest.mark.skipif(not LABELS.is_dir(), reason="the real label files are not at hand")
SHARES = {"test": 0.2, "validation": 0.1}
SCRIPT = """
import sys
from pathlib import Path
from qfm_iqm.datasets.folds import choose_split
from qfm_iqm.datasets.folds import write_folds
from qfm_iqm.datasets.reading import read_table
table = read_table(sys.argv[1])
folds = [choose_split(table, "content", test=.2, validation=.1, fold=n) for n in range(10)]
write_folds(folds, Path(sys.argv[2]))
"""


def table_of(contents=20, versions=3):
    names = [f"c{c:02}_v{v}.png" for c in range(contents) for v in range(versions)]
    return RatedTable(tuple(names), np.arange(len(names)), tuple(n[:3] for n in names))


def test_the_same_bytes_under_two_hash_seeds_and_two_file_orders(tmp_path):
    rows = [f"c{c:02}_v{v}.png,{c + v},c{c:02}" for c in range(30) for v in range(4)]
    outputs = []
    for number, hash_seed in enumerate(("0", "4242")):
        random.Random(number).shuffle(rows)
        path = tmp_path / f"table{number}.csv"
        path.write_text("\n".join(["name,mos,content", *rows]))
        out = tmp_path / f"folds{number}"
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        subprocess.run([sys.executable, "-c", SCRIPT, path, out], check=True, env=environment)
        outputs.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert outputs[0] == outputs[1]
    assert sorted(outputs[0]) == sorted(["folds.csv", *(f"fold{n}.txt" for n in range(10))])
    assert len(set(outputs[0].values())) == 11


def test_the_generator_is_the_one_that_is_stated():
    """By hand: contents by their digest, until a fifth of the images is reached."""
    table = table_of()
    for fold in range(3):
        order = sorted(
            set(table.contents),
            key=lambda c: hashlib.sha256(f"{fold}:{c}".encode()).hexdigest(),
        )
        split = choose_split(table, "content", fold=fold, **SHARES)
        assert {name[:3] for name in split.test} == set(order[:4])
        assert {name[:3] for name in split.validation} == set(order[4:6])


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 30), st.integers(1, 4), st.integers(0, 9))
def test_parts_share_no_content_and_hold_every_image(contents, versions, fold):
    table = table_of(contents, versions)
    split = choose_split(table, "content", fold=fold, **SHARES)
    parts = [{name[:3] for name in split.names(p)} for p in ("train", "validation", "test")]
    assert sum(map(len, parts)) == contents
    assert len(split.train + split.validation + split.test) == len(table)


def test_written_folds_read_back_and_are_listed_with_their_digest(tmp_path):
    folds = [choose_split(table_of(), "content", fold=n, **SHARES) for n in range(3)]
    paths = write_folds(folds, tmp_path / "deep" / "er")
    assert [read_split(path) for path in paths] == folds
    with (tmp_path / "deep/er/folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, fold, path in zip(rows, folds, paths, strict=True):
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == fold.sha256
        assert int(row["train"]) == len(fold.train)
    chosen = choose_split(table_of(), "file", fold=0, file=paths[2], **SHARES)
    assert chosen == folds[2]


def test_files_that_are_no_split_are_refused(tmp_path):
    with pytest.raises(TableError, match="cannot be read"):
        read_split(tmp_path / "none.txt")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TableError, match="cannot be read"):
        read_split(tmp_path / "x.txt")
    with pytest.raises(TableError, match="needs the name of the file"):
        choose_split(table_of(), "file", fold=0, **SHARES)
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match="cannot be written"):
        write_folds([], tmp_path / "file")


def test_an_official_split_keeps_its_parts_and_lends_validation_from_training(official_trees):
    koniq = DATASETS["koniq10k"].load(official_trees["koniq10k"][0])
    whole = official_fold(koniq, validation=0.5, fold=3)
    for part in ("train", "validation", "test"):
        assert set(whole.names(part)) == {
            name for name, p in zip(koniq.names, koniq.column("split"), strict=True) if p == part
        }
    biq = DATASETS["biq2021"].load(official_trees["biq2021"][0])
    folds = [official_fold(biq, validation=0.2, fold=n) for n in (0, 0, 1)]
    tested = {n for n, p in zip(biq.names, biq.column("split"), strict=True) if p == "test"}
    assert all(set(fold.test) == tested for fold in folds)
    assert len(folds[0].validation) == round(0.2 * (len(biq) - len(tested)))
    assert folds[0] == folds[1]
    assert folds[0].validation != folds[2].validation
    only = RatedTable(("a", "b"), [1, 2], columns={"split": ("train", "val")})
    with pytest.raises(TableError, match="no test split"):
        official_fold(only, validation=0.1, fold=0)


def write_arrays(folder, folds, **parts):
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        # Filled up with -1, as the real ones are.
        width = max(map(len, rows)) + 2
        array = np.full((folds, width), -1, dtype=np.int64)
        for line, row in zip(array, rows, strict=True):
            line[: len(row)] = row
        np.save(folder / f"{part}.npy", array)


def test_arniqas_arrays_name_rows(tmp_path):
    table = table_of(4, 2)
    train, test = [[0, 1, 2, 3], [4, 5, 6]], [[6, 7], [0]]
    write_arrays(tmp_path, 2, train=train, test=test, val=[[4], [1, 2]])
    first, second = (read_arniqa(tmp_path, fold, table) for fold in (0, 1))
    assert first.train == table.names[:4]
    assert (first.validation, first.test) == (table.names[4:5], table.names[6:])
    assert second.validation == table.names[1:3]
    assert "ARNIQA's fold 1" in second.rule
    with pytest.raises(TableError, match="holds 2 folds, but no fold 2"):
        read_arniqa(tmp_path, 2, table)
    with pytest.raises(TableError, match=r"val\.npy names row 4, but there are 4 images"):
        read_arniqa(tmp_path, 0, table_of(2, 2))
    (tmp_path / "test.npy").write_bytes(b"x")
    with pytest.raises(TableError, match="not a readable array"):
        read_arniqa(tmp_path, 0, table)


def test_arniqas_arrays_of_an_official_split_are_fold_0(tmp_path):
    table = table_of(4, 2)
    for part, rows in (("train", range(5)), ("val", [5]), ("test", [6, 7])):
        np.save(tmp_path / f"{part}.npy", np.array(rows))
    assert count_arniqa(tmp_path) == 1
    split = read_arniqa(tmp_path, 0, table)
    assert (split.train, split.test) == (table.names[:5], table.names[6:])
    with pytest.raises(TableError, match="holds 1 folds, but no fold 1"):
        read_arniqa(tmp_path, 1, table)
    np.save(tmp_path / "train.npy", np.zeros((1, 2, 3), dtype=int))
    with pytest.raises(TableError, match=r"or \(images,\) of integers, .*\(1, 2, 3\)"):
        read_arniqa(tmp_path, 0, table)


def test_arrays_that_would_run_code_are_refused(tmp_path):
    np.save(tmp_path / "train.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(TableError, match="not a readable array"):
        read_arniqa(tmp_path, 0, table_of())


def test_arniqas_own_list_gives_the_numbers_their_meaning(tmp_path):
    names = ("jp2k/img1.bmp", "wn/img1.bmp", "wn/img2.bmp")
    table = RatedTable(names, [1, 2, 3])
    lines = [f"LIVE/{name.upper()},LIVE/refimgs/x.bmp,1" for name in names[::-1]]
    (tmp_path / "LIVE.txt").write_text("\n".join(["dis_img_path,ref_img_path,score", *lines]))
    write_arrays(tmp_path, 1, train=[[0, 1]], test=[[2]])
    split = read_arniqa(tmp_path, 0, table, tmp_path / "LIVE.txt")
    assert split.test == ("jp2k/img1.bmp",)
    (tmp_path / "LIVE.txt").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="no column dis_img_path"):
        read_arniqa(tmp_path, 0, table, tmp_path / "LIVE.txt")


def test_liqes_lists_name_images(tmp_path):
    table = RatedTable(("Images/1.bmp", "Images/2.JPG", "Images/3.bmp"), [1, 2, 3])
    (tmp_path / "clive_train_clip.txt").write_bytes(b"Images/1.bmp\t63.9\tother\tinvalid\r\n")
    (tmp_path / "clive_val_clip.txt").write_text("images/2.jpg\t2\n")
    (tmp_path / "clive_test_clip.txt").write_text("ChallengeDB_release/Images/3.bmp\t1.5\n\n")
    split = read_liqe(tmp_path, table)
    assert split == Split(*((name,) for name in table.names), split.rule)
    (tmp_path / "koniq10k_test.txt").write_text("1024x768/1.jpg\t3.7\n")
    with pytest.raises(TableError, match=r"one list \*_test\*\.txt, but it holds 2"):
        read_liqe(tmp_path, table)
    assert read_liqe(tmp_path, table, "clive") == split
    (tmp_path / "clive_test_clip.txt").write_text("Images/9.bmp\t1\n")
    with pytest.raises(TableError, match=r"names 1 images that are not in .*Images/9.bmp"):
        read_liqe(tmp_path, table, "clive")


def test_a_file_name_that_is_there_twice_needs_its_folder(tmp_path):
    table = RatedTable(("a/1.png", "b/1.png", "b/2.png"), [1, 2, 3])
    for part, name in (("train", "1.png"), ("test", "2.png")):
        (tmp_path / f"x_{part}.txt").write_text(name)
    with pytest.raises(TableError, match=r"1 images that are not in .* \(1\.png\)"):
        read_liqe(tmp_path, table)


def parts_of(table):
    """The parts of three folds, by the file names of their images."""
    folds = [choose_split(table, "content", fold=n, **SHARES) for n in range(3)]
    return [
        [{name.rpartition("/")[2] for name in fold.names(part)} for part in SPLITS]
        for fold in folds
    ]


def test_folds_are_the_same_whichever_size_was_downloaded(official_trees, tmp_path):
    small = DATASETS["koniq10k"].load(official_trees["koniq10k"][0])
    shutil.copytree(official_trees["koniq10k"][0], tmp_path / "large")
    (tmp_path / "large/512x384").rename(tmp_path / "large/1024x768")
    large = DATASETS["koniq10k"].load(tmp_path / "large")
    assert large.names != small.names
    assert parts_of(large) == parts_of(small)


@real
def test_folds_are_those_of_pyiqas_tables(tmp_path):
    koniq, tid, csiq = (
        read_table(LABELS / f"pyiqa_meta_info/{name}.csv", label=label)
        for name, label in (("KonIQ10k", "mos"), ("TID2013", "mos"), ("CSIQ", "dmos"))
    )
    assert parts_of(DATASETS["koniq10k"].load(LABELS)) == parts_of(koniq)
    shutil.copy(LABELS / "tid2013_mos_with_names.txt", tmp_path / "mos_with_names.txt")
    assert parts_of(DATASETS["tid2013"].load(tmp_path)) == parts_of(tid)
    lines = [f"{name} {dmos}\n" for name, dmos in zip(csiq.names, csiq.mos, strict=True)]
    (tmp_path / "csiq_label.txt").write_text("".join(lines))
    assert parts_of(DATASETS["csiq"].load(tmp_path)) == parts_of(csiq)


@real
def test_koniqs_official_split_has_the_published_sizes():
    table = DATASETS["koniq10k"].load(LABELS)
    split = official_fold(table, validation=0.1, fold=0)
    sizes = [len(split.names(part)) for part in ("train", "validation", "test")]
    assert sizes == [7058, 1000, 2015]
