import csv
import hashlib
import shutil

import numpy as np
import pytest

from qfm_iqm.cli.showing import show_datasets
from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.folds import read_split
from qfm_iqm.datasets.reading import read_table


def test_list_shows_every_dataset_with_its_facts(qfm):
    answer = qfm("data", "list")
    assert answer.code == 0
    rows = {row["name"]: row for row in csv.DictReader(answer.out.splitlines())}
    assert list(rows) == list(DATASETS)
    for name, dataset in DATASETS.items():
        row = rows[name]
        assert (row["images"], row["contents"]) == (str(dataset.images), str(dataset.contents))
        assert row["label"] == f"{dataset.label} {dataset.minimum:g}–{dataset.maximum:g}"
        assert (row["source"], row["citation"]) == (dataset.source, dataset.citation)
    assert rows["csiq"]["better"] == "low"
    assert rows["livefb"]["split"] == "official where marked"


def test_list_on_a_narrow_terminal_breaks_no_address(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_datasets(list(DATASETS.values()))
    lines = capsys.readouterr().out.splitlines()
    for dataset in DATASETS.values():
        assert dataset.source in lines
        assert f"{dataset.title}: {dataset.terms}" in lines
        assert any(line.split()[:2] == [dataset.name, str(dataset.images)] for line in lines)


@pytest.mark.parametrize("name", DATASETS)
def test_check_of_a_small_tree_says_what_is_missing(qfm, official_trees, name):
    answer = qfm("data", "check", name, "--root", official_trees[name][0])
    assert answer.code == 1
    assert f"{DATASETS[name].images} were published." in answer.out
    assert "have no image" not in answer.out
    assert "expected" in answer.out
    for what in ("citation", "terms", "source"):
        assert f"{what.capitalize()}: {getattr(DATASETS[name], what)}" in answer.out.splitlines()


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
    assert "1 labels without an image are left out" in answer.err
    assert len(read_table(out)) == 44


@pytest.mark.parametrize("more", [[], ["--present"]])
def test_export_refuses_two_names_of_one_image(qfm, official_trees, tmp_path, more):
    root = tmp_path / "livefb"
    shutil.copytree(official_trees["livefb"][0], root)
    with (root / "labels_image.csv").open("a") as file:
        file.write("BLUR_dataset/motion0000.jpg,70\n")
    out = tmp_path / "labels.csv"
    answer = qfm("data", "export", "livefb", "--root", root, "--out", out, *more)
    assert answer.code == 2
    assert "mean the same file" in answer.err
    assert not out.exists()


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


def test_split_writes_numbered_folds_and_finds_no_leak(qfm, official_trees, tmp_path):
    root, out = official_trees["tid2013"][0], tmp_path / "folds"
    answer = qfm("data", "split", "tid2013", "--root", root, "--out", out, "--folds", 3)
    assert answer.code == 0, answer.err
    digests = dict(line.split() for line in answer.out.splitlines())
    for name, digest in digests.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert len(digests) == 3
    assert (out / "leaks.csv").read_text().count("\n") == 1


def test_split_refuses_leaks_or_lists_them(qfm, official_trees, tmp_path):
    root = tmp_path / "koniq10k"
    shutil.copytree(official_trees["koniq10k"][0], root)
    table = DATASETS["koniq10k"].load(root)
    by_part = dict(zip(table.column("split"), table.names, strict=True))
    shutil.copy(root / by_part["train"], root / by_part["test"])
    command = ["data", "split", "koniq10k", "--root", root, "--official", "--out", tmp_path / "o"]
    answer = qfm(*command)
    assert answer.code == 2
    assert "leak between splits (1 by file)" in answer.err
    assert not (tmp_path / "o/fold0.txt").exists()
    assert answer.out == ""
    assert by_part["test"] in (tmp_path / "o/leaks.csv").read_text()
    assert qfm(*command, "--leaks", "list").code == 0


def test_split_takes_other_peoples_folds(qfm, official_trees, tmp_path):
    root = official_trees["livec"][0]
    table = DATASETS["livec"].load(root)
    numbers = np.arange(len(table)).reshape(2, -1)
    np.save(tmp_path / "train.npy", numbers)
    np.save(tmp_path / "test.npy", numbers[::-1])
    command = ["data", "split", "livec", "--root", root]
    answer = qfm(*command, "--arniqa", tmp_path, "--out", tmp_path / "a")
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 2  # one per fold in the arrays
    command += ["--folds", 2]
    split = read_split(tmp_path / "a/fold1.txt")
    assert set(split.test) == {table.names[i] for i in numbers[0]}
    for number in (1, 2):
        folder = tmp_path / "splits2" / str(number)
        folder.mkdir(parents=True)
        for part, rows in (("train", numbers[0]), ("test", numbers[1])):
            lines = "".join(f"{table.names[i]}\t{table.mos[i]}\tblur\n" for i in rows)
            (folder / f"clive_{part}_clip.txt").write_text(lines)
    answer = qfm(*command, "--liqe", tmp_path / "splits2", "--out", tmp_path / "l")
    assert answer.code == 0, answer.err
    assert set(read_split(tmp_path / "l/fold0.txt").test) == {table.names[i] for i in numbers[1]}
    # If the folder also has another dataset's lists, a prefix distinguishes them.
    for part in ("train", "test"):
        (tmp_path / "splits2/1" / f"koniq_{part}_clip.txt").write_text("none.jpg\t1\n")
    command_liqe = [*command[:-1], 1, "--liqe", tmp_path / "splits2", "--out", tmp_path / "p"]
    assert "but it holds 2" in qfm(*command_liqe).err
    answer = qfm(*command_liqe, "--liqe-prefix", "clive")
    assert answer.code == 0, answer.err
    assert (tmp_path / "p/fold0.txt").read_bytes() == (tmp_path / "l/fold0.txt").read_bytes()
    answer = qfm(*command, "--liqe", tmp_path, "--official", "--out", tmp_path / "x")
    assert "Give one of --official, --arniqa and --liqe" in answer.err
    answer = qfm("data", "split", "livec", "--out", tmp_path / "x")
    assert answer.code == 2
    assert "Give --root" in answer.err
    answer = qfm("data", "split", "kadid", "--out", tmp_path / "x")
    assert answer.code == 2
    assert answer.err.startswith("qfm: There is no dataset 'kadid'; choose one of live, csiq")
