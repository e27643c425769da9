import shutil
from dataclasses import replace

import numpy as np
import pytest

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.checking import check_dataset

from ..trees import photo


@pytest.mark.parametrize("name", DATASETS)
def test_a_small_tree_lacks_labels_and_contents_and_nothing_else(name, official_trees):
    dataset = DATASETS[name]
    found = check_dataset(dataset, official_trees[name][0])
    assert (found.missing, found.unlabeled, found.unreadable) == ((), (), ())
    assert found.decoded == len(found.table) == found.figures["images"][0]
    said = " ".join(found.findings)
    assert f"{len(found.table)} labels were found, {dataset.images} were published." in said
    assert f"{dataset.contents} were published" in said
    assert "outside" not in said
    mos = np.sort(found.table.mos)
    assert found.figures["lowest label"] == (mos[0], dataset.lowest)
    assert found.figures["highest label"] == (mos[-1], dataset.highest)
    assert found.figures["mean label"][0] == pytest.approx(np.mean(mos))


def test_what_is_missing_unlabeled_or_broken_is_named(official_trees, tmp_path):
    root = tmp_path / "kadid10k"
    shutil.copytree(official_trees["kadid10k"][0], root)
    (root / "images/I02_10_03.png").unlink()
    (root / "images/I03_01_01.png").write_bytes(b"no image")
    photo(root / "images/I06_01_01.png", 6, 0.5)
    (root / "images/notes.txt").write_text("no image either")
    found = check_dataset(DATASETS["kadid10k"], root)
    assert found.missing == ("images/I02_10_03.png",)
    assert found.unlabeled == ("images/I06_01_01.png",)
    assert len(found.unreadable) == 1
    assert "I03_01_01.png" in found.unreadable[0]
    said = " ".join(found.findings)
    assert "1 labels have no image (images/I02_10_03.png)." in said
    assert "1 images have no label and are not used (images/I06_01_01.png)." in said
    assert check_dataset(DATASETS["kadid10k"], root, decode=False).unreadable == ()


def test_labels_outside_of_the_scale_are_named(official_trees, tmp_path):
    lines = (official_trees["kadid10k"][0] / "dmos.csv").read_text().splitlines()
    lines[1] = "I01_01_01.png,I01.png,5.5,0.4"
    (tmp_path / "dmos.csv").write_text("\n".join(lines))
    found = check_dataset(DATASETS["kadid10k"], tmp_path)
    assert len(found.missing) == len(found.table)
    assert "1 labels lie outside 1 to 4.93 (5.5)." in found.findings


def test_a_whole_download_has_no_finding(official_trees):
    table = DATASETS["kadid10k"].load(official_trees["kadid10k"][0])
    mean, std = float(table.mos.mean()), float(table.mos.std())
    small = replace(DATASETS["kadid10k"], images=45, contents=5, mean=round(mean, 4), std=std)
    assert check_dataset(small, official_trees["kadid10k"][0]).findings == ()
    other = replace(small, mean=mean + 0.01)
    assert check_dataset(other, official_trees["kadid10k"][0]).findings == (
        f"The mean label is {mean:.4f}, not {mean + 0.01:.4f} as expected.",
    )


def test_live_beyond_its_scale_is_whole(official_trees):
    found = check_dataset(DATASETS["live"], official_trees["live"][0], decode=False)
    assert found.table.mos.min() < 0
    assert found.table.mos.max() > 100
    assert all("were published" in finding for finding in found.findings)


@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("koniq10k", "koniq10k_distributions_sets.csv", "split"),
        ("tid2013", "mos_std.txt", "std"),
    ],
)
def test_a_label_file_that_is_missed_is_named(official_trees, tmp_path, name, file, column):
    whole = check_dataset(DATASETS[name], official_trees[name][0], decode=False)
    assert file not in " ".join(whole.findings)
    shutil.copytree(official_trees[name][0], tmp_path / name)
    (tmp_path / name / file).unlink()
    found = check_dataset(DATASETS[name], tmp_path / name, decode=False)
    assert f"{file} is missing: the column {column} is lost." in found.findings


def test_names_for_one_image_are_named(official_trees, tmp_path):
    shutil.copytree(official_trees["livefb"][0], tmp_path / "livefb")
    with (tmp_path / "livefb/labels_image.csv").open("a") as file:
        file.write("BLUR_dataset/motion0000.jpg,70\n")
    found = check_dataset(DATASETS["livefb"], tmp_path / "livefb", decode=False)
    assert found.doubled == ("database/BLUR_dataset/motion0000.jpg",)
    assert "1 names differ from another name only in letter case" in " ".join(found.findings)
