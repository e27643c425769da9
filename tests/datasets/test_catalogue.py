"""Every loader on a small tree in its dataset's official format."""

import shutil

import numpy as np
import pytest
from openpyxl import load_workbook
from scipy.io import loadmat, savemat

from qfm_iqm.datasets.catalogue import DATASETS, find_dataset
from qfm_iqm.errors import TableError


@pytest.mark.parametrize("name", DATASETS)
def test_a_loader_finds_every_label_and_its_image(name, official_trees):
    root, rows = official_trees[name]
    table = DATASETS[name].load(root)
    assert dict(zip(table.names, table.mos.tolist(), strict=True)) == dict(rows)
    assert all(path.is_file() for path in table.paths(root))
    if DATASETS[name].contents < DATASETS[name].images:
        assert len(set(table.contents)) == 5
        assert all(table.column("distortion"))
    else:
        assert len(set(table.contents)) == len(table)
        assert all(n.endswith(f"/{c}") for n, c in zip(table.names, table.contents, strict=True))
    if DATASETS[name].split == "official":
        assert {"train", "test"} <= set(table.column("split"))


@pytest.mark.parametrize("name", ["live", "csiq", "tid2013", "kadid10k", "livec", "koniq10k"])
def test_a_deviation_stands_beside_its_own_label(name, official_trees):
    table = DATASETS[name].load(official_trees[name][0])
    deviations = np.array(table.column("std"), dtype=float)
    assert len(set(deviations)) > 8
    assert deviations == pytest.approx(abs(table.mos) / 10, abs=6e-4)


def test_kinds_and_levels_are_those_of_the_names(official_trees):
    root, _ = official_trees["tid2013"]
    table = DATASETS["tid2013"].load(root)
    row = table.names.index("distorted_images/i02_11_5.BMP")
    assert table.column("distortion")[row] == "JPEG2000 compression"
    assert (table.contents[row], table.column("level")[row]) == ("i02", "5")
    assert table.column("std")[row] == "0.22000"
    table = DATASETS["kadid10k"].load(official_trees["kadid10k"][0])
    row = table.names.index("images/I03_25_05.png")
    assert table.column("distortion")[row] == "contrast change"
    assert (table.contents[row], table.column("level")[row]) == ("i03", "5")
    table = DATASETS["csiq"].load(official_trees["csiq"][0])
    row = table.names.index("dst_imgs/jpeg2000/1602.jpeg2000.4.png")
    assert (table.contents[row], table.column("level")[row]) == ("1602", "4")
    assert set(table.column("distortion")) == {
        "awgn", "blur", "contrast", "fnoise", "jpeg", "jpeg2000",
    }  # fmt: skip


def test_csiq_reads_the_text_list_too(official_trees, tmp_path):
    root, rows = official_trees["csiq"]
    lines = [f"{name.rpartition('/')[2]} {dmos}\n" for name, dmos in rows]
    (tmp_path / "csiq_label.txt").write_text("".join(lines))
    listed, sheet = DATASETS["csiq"].load(tmp_path), DATASETS["csiq"].load(root)
    for attribute in ("names", "contents"):
        assert getattr(listed, attribute) == getattr(sheet, attribute)
    for column in ("distortion", "level"):
        assert listed.column(column) == sheet.column(column)
    assert np.array_equal(listed.mos, sheet.mos)


def test_koniq_takes_the_label_of_0_to_100_from_either_file(official_trees, tmp_path):
    root, rows = official_trees["koniq10k"]
    whole = DATASETS["koniq10k"].load(root)
    assert whole.column("split")[:6] == ("train",) * 4 + ("validation", "test")
    shutil.copy(root / "koniq10k_distributions_sets.csv", tmp_path)
    sets_alone = DATASETS["koniq10k"].load(tmp_path)
    # Without images in the folder, the larger ones are expected.
    assert {name.removeprefix("1024x768/") for name in sets_alone.names} == {
        name.removeprefix("512x384/") for name, _ in rows
    }
    order = np.argsort(sets_alone.names), np.argsort(whole.names)
    assert np.array_equal(sets_alone.mos[order[0]], whole.mos[order[1]])
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    shutil.copytree(root / "koniq10k_scores_and_distributions", tmp_path / "deep")
    scores = tmp_path / "koniq10k_scores_and_distributions.csv"
    (tmp_path / "deep" / scores.name).rename(scores)
    assert "split" not in DATASETS["koniq10k"].load(tmp_path).columns


def test_a_wrong_root_is_told_what_was_expected(official_trees, tmp_path):
    with pytest.raises(TableError, match=r"There is no folder .*; give the folder .* holds Images"):
        DATASETS["livec"].load(tmp_path / "none")
    for name, dataset in DATASETS.items():
        with pytest.raises(TableError, match=r"holds no label file .*whole, unpacked download"):
            dataset.load(tmp_path)
        root = official_trees[name][0]
        with pytest.raises(TableError, match="holds no label file"):
            dataset.load(root.parent)
    alone = tmp_path / "one too high"
    shutil.copytree(official_trees["kadid10k"][0], alone / "kadid10k")
    with pytest.raises(TableError, match=r"no label file dmos\.csv: give .*kadid10k\."):
        DATASETS["kadid10k"].load(alone)


def test_an_unknown_dataset_is_told_the_names():
    with pytest.raises(TableError, match=r"no dataset 'kadid'.*live, csiq, tid2013, kadid10k"):
        find_dataset("kadid")


def test_labels_that_are_no_numbers_are_named(official_trees, tmp_path):
    root = official_trees["livec"][0]
    shutil.copytree(root / "Data", tmp_path / "Data")
    mos = loadmat(root / "Data/AllMOS_release.mat")["AllMOS_release"]
    mos[0, 9] = np.nan
    savemat(tmp_path / "Data/AllMOS_release.mat", {"AllMOS_release": mos})
    with pytest.raises(TableError, match=r"1 of 30 values of AllMOS_release .*row 3: 'nan'"):
        DATASETS["livec"].load(tmp_path)
    savemat(tmp_path / "Data/AllMOS_release.mat", {"AllMOS_release": mos[:, 1:]})
    with pytest.raises(TableError, match="have different lengths: AllImages_release 37"):
        DATASETS["livec"].load(tmp_path)
    savemat(tmp_path / "Data/AllMOS_release.mat", {"other": mos})
    with pytest.raises(TableError, match=r"no variable 'AllMOS_release'; its variables are: other"):
        DATASETS["livec"].load(tmp_path)
    (tmp_path / "Data/AllMOS_release.mat").write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    with pytest.raises(TableError, match="not a readable MATLAB file"):
        DATASETS["livec"].load(tmp_path)


def test_deviations_and_marks_that_are_no_numbers_are_named(official_trees, tmp_path):
    for name, file in (("tid2013", "mos_with_names.txt"), ("csiq", "csiq.DMOS.xlsx")):
        (tmp_path / name).mkdir()
        shutil.copy(official_trees[name][0] / file, tmp_path / name)
    labels = (tmp_path / "tid2013/mos_with_names.txt").read_text().split()
    (tmp_path / "tid2013/mos_std.txt").write_text("0.1\n" * (len(labels) // 2 - 1) + "abc\n")
    with pytest.raises(TableError, match=r"mos_std\.txt: 1 of 40 .*standard deviations"):
        DATASETS["tid2013"].load(tmp_path / "tid2013")
    book = load_workbook(tmp_path / "csiq/csiq.DMOS.xlsx")
    book["all_by_image"].cell(6, 8, "abc")
    book.save(tmp_path / "csiq/csiq.DMOS.xlsx")
    with pytest.raises(TableError, match=r"values of dmos_std .*row 2: 'abc'"):
        DATASETS["csiq"].load(tmp_path / "csiq")
    for name, file, variable in (
        ("livec", "Data/AllStdDev_release.mat", "AllStdDev_release"),
        ("live", "dmos_realigned.mat", "dmos_std"),
        ("live", "dmos_realigned.mat", "orgs"),
    ):
        root = tmp_path / f"{name} {variable}"
        shutil.copytree(official_trees[name][0], root)
        content = loadmat(root / file)
        rated = np.flatnonzero(content["orgs"] == 0)[0] if name == "live" else 9
        content[variable][0, rated] = np.nan
        savemat(root / file, {key: content[key] for key in content if key[0] != "_"})
        with pytest.raises(TableError, match=f"1 of .* values of {variable} is not a finite"):
            DATASETS[name].load(root)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("tid2013", "mos_with_names.txt", "5.5 I01_01_1.bmp\n5.5 I01_25_1.bmp\n", "I01_25_1"),
        ("tid2013", "mos_with_names.txt", "5.5\n", "every line must hold 2 fields"),
        ("tid2013", "mos_with_names.txt", "x I01_01_1.bmp\n", "not a finite number .row 1: 'x'"),
        ("tid2013", "mos_with_names.txt", "", "no rows"),
        ("csiq", "csiq_label.txt", "1600.fog.1.png 0.1\n", "NAME.TYPE.LEVEL.png"),
        ("csiq", "csiq.DMOS.xlsx", "no zip", "not a readable Excel file"),
        ("kadid10k", "dmos.csv", "dist_img,ref_img,dmos,var\na.png,b.png,1,1\n", "I01_01_01.png"),
        (
            "livefb",
            "labels_image.csv",
            "name,mos\na/b.jpg,70\na/b.jpg,71\n",
            r"1 name is in more than one row \(a/b.jpg\)",
        ),
        ("livefb", "labels_image.csv", "name,mos\na/b.jpg,nan\n", "line 2: 'nan'"),
        (
            "kadid10k",
            "dmos.csv",
            "dist_img,ref_img,dmos,var\nI01_01_01.png,I02.png,1,1\nI01_01_02.png,i01.png,1,1\n",
            r"for 1 images it is not \(I01_01_01\.png\)",
        ),
        (
            "kadid10k",
            "dmos.csv",
            "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,1,nan\n",
            "value of var is not a finite number",
        ),
        (
            "koniq10k",
            "koniq10k_distributions_sets.csv",
            "image_name,MOS,SD,set\na.jpg,50,nan,training\nb.jpg,51,1,test\n",
            "values of SD is not a finite number .row 1: 'nan'",
        ),
    ],
)
def test_a_label_file_that_cannot_be_used_is_refused(name, file, content, message, tmp_path):
    (tmp_path / file).write_text(content)
    with pytest.raises(TableError, match=message):
        DATASETS[name].load(tmp_path)


def test_live_fbs_marks_are_an_official_split(official_trees, tmp_path):
    labels = official_trees["livefb"][0] / "labels_image.csv"
    assert "split" not in DATASETS["livefb"].load(labels.parent).columns
    header, *lines = labels.read_text().splitlines()
    marks = ["True", "false", "0", "1"] * len(lines)
    marked = [f"{line},{mark}" for line, mark in zip(lines, marks, strict=False)]
    (tmp_path / "labels_image.csv").write_text("\n".join([f"{header},is_valid", *marked]))
    table = DATASETS["livefb"].load(tmp_path)
    assert table.column("split")[:4] == ("test", "train", "train", "test")
    (tmp_path / "labels_image.csv").write_text(
        "\n".join([f"{header},is_valid", *marked[:-1], f"{lines[-1]},maybe"])
    )
    with pytest.raises(TableError, match=r"is_valid must hold True or False, .* holds 'maybe'"):
        DATASETS["livefb"].load(tmp_path)
