import shutil

import pytest

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.reading import read_table


def test_list_shows_every_dataset_with_its_facts(qfm):
    answer = qfm("data", "list")
    assert answer.code == 0
    for name, dataset in DATASETS.items():
        line = next(line for line in answer.out.splitlines() if line.startswith(name))
        assert str(dataset.images) in line
        assert f"{dataset.label} {dataset.minimum:g}–{dataset.maximum:g}" in line
    assert next(line for line in answer.out.splitlines() if line.startswith("csiq")).count("low")


@pytest.mark.parametrize("name", DATASETS)
def test_check_of_a_small_tree_says_what_is_missing(qfm, official_trees, name):
    answer = qfm("data", "check", name, "--root", official_trees[name][0])
    assert answer.code == 1
    assert f"{DATASETS[name].images} were published." in answer.out
    assert "have no image" not in answer.out


def test_check_names_what_is_broken(qfm, official_trees, tmp_path):
    root = tmp_path / "spaq"
    shutil.copytree(official_trees["spaq"][0], root)
    (root / "TestImage/00003.jpg").write_bytes(b"")
    (root / "TestImage/00004.jpg").unlink()
    answer = qfm("data", "check", "spaq", "--root", root)
    assert answer.code == 1
    assert "1 labels have no image (TestImage/00004.jpg)." in answer.out
    assert "00003.jpg" in answer.out


@pytest.mark.parametrize("name", DATASETS)
def test_export_writes_what_the_loader_reads(qfm, official_trees, tmp_path, name):
    out = tmp_path / "labels.csv"
    answer = qfm("data", "export", name, "--root", official_trees[name][0], "--out", out)
    assert answer.code == 0, answer.err
    assert read_table(out).names == DATASETS[name].load(official_trees[name][0]).names


def test_export_refuses_missing_images_or_leaves_them_out(qfm, official_trees, tmp_path):
    root = tmp_path / "kadid10k"
    shutil.copytree(official_trees["kadid10k"][0], root)
    (root / "images/I01_01_03.png").unlink()
    out = tmp_path / "labels.parquet"
    answer = qfm("data", "export", "kadid10k", "--root", root, "--out", out)
    assert answer.code == 2
    assert "1 of the 45 names" in answer.err
    assert not out.exists()
    answer = qfm("data", "export", "kadid10k", "--root", root, "--out", out, "--present")
    assert answer.code == 0
    assert "1 labels without image are left out" in answer.err
    assert len(read_table(out)) == 44


@pytest.mark.parametrize("verb", ["check", "export"])
def test_mistakes_are_one_sentence(qfm, tmp_path, verb):
    more = ["--out", tmp_path / "t.csv"] if verb == "export" else []
    answer = qfm("data", verb, "live2", "--root", tmp_path, *more)
    assert answer.code == 2
    assert answer.err.startswith("qfm: There is no dataset 'live2'")
    assert answer.err.count("\n") == 1
    answer = qfm("data", verb, "live", "--root", tmp_path, *more)
    assert answer.code == 2
    assert "holds no label file dmos_realigned.mat" in answer.err
