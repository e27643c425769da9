import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.model.folder import load_model


@pytest.fixture
def labels(photo_folder, tmp_path):
    """A table without images beside it: they are elsewhere."""
    names = sorted(path.name for path in photo_folder.iterdir())
    mos = np.random.default_rng(2).normal(50, 10, len(names))
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "mos", "subset"])
        writer.writerows((name, y, name[-3:]) for name, y in zip(names, mos, strict=True))
    return path


def test_figures_tables_and_what_is_printed(qfm, labels, photo_folder, tiny_model_folder, tmp_path):
    out, images = tmp_path / "figures.csv", tmp_path / "images.csv"
    answer = qfm(
        "evaluate", labels, "--model", tiny_model_folder, "--root", photo_folder, "--by", "subset",
        "--out", out, "--per-image", images, "--bootstrap", 100,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert f"Scored 12 images with {tiny_model_folder}.\n" in answer.err
    model = load_model(tiny_model_folder)
    table = read_table(labels)
    scores = [model.score(photo_folder / name).value for name in table.names]
    expected = stats.spearmanr(scores, table.mos).statistic
    with out.open(newline="") as file:
        rows = {(row["subset"], row["metric"]): row for row in csv.DictReader(file)}
    assert float(rows["whole", "srcc"]["value"]) == pytest.approx(expected, abs=1e-9)
    assert {subset for subset, _ in rows} == {"whole", "jpg", "png", "ebp", "subset_mean"}
    assert f"{expected:.4f}" in answer.out
    assert "whole" in answer.out
    with images.open(newline="") as file:
        per_image = list(csv.DictReader(file))
    assert [row["name"] for row in per_image] == list(table.names)
    assert [float(row["score"]) for row in per_image] == pytest.approx(scores, abs=2e-4)
    # Groups of four are too small for a logistic curve; a message says so.
    assert "needs at least 5 images" in answer.err


def test_the_split_of_the_model_stands_in_every_row(
    qfm, labels, photo_folder, tiny_model_folder, tmp_path
):
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    card = json.loads((model / "card.json").read_text())
    card["training"] = {"split_sha256": "ab" * 32}
    (model / "card.json").write_text(json.dumps(card))
    out = tmp_path / "figures.csv"
    answer = qfm(
        "evaluate", labels, "--model", model, "--root", photo_folder, "--out", out, "--bootstrap", 0
    )
    assert answer.code == 0, answer.err
    with out.open(newline="") as file:
        assert {row["split_sha256"] for row in csv.DictReader(file)} == {"ab" * 32}


def test_scores_of_any_method_are_evaluated_without_a_model(qfm, labels, tmp_path):
    table = read_table(labels)
    scores = np.random.default_rng(3).normal(0, 1, len(table)) - table.mos
    file, out = tmp_path / "theirs.csv", tmp_path / "figures.csv"
    by_name = dict(zip(table.names[::-1], scores[::-1].tolist(), strict=True))
    rows = (f"{name},{score}\n" for name, score in by_name.items())
    file.write_text("path,quality\n" + "".join(rows))
    command = ["evaluate", labels, "--scores", file, "--column", "quality", "--bootstrap", 100]
    answer = qfm(*command, "--by", "subset", "--out", out)
    assert answer.code == 0, answer.err
    with out.open(newline="") as stream:
        found = {(row["subset"], row["metric"]): row for row in csv.DictReader(stream)}
    whole = found["whole", "srcc"]
    expected = stats.spearmanr(scores, table.mos).statistic
    assert float(whole["value"]) == pytest.approx(expected)
    assert expected < 0  # not made positive: the sign tells the direction
    assert float(whole["ci_low"]) <= float(whole["value"]) <= float(whole["ci_high"])
    assert {"jpg", "png", "ebp"} < {subset for subset, _ in found}
    assert f"{expected:.4f}" in answer.out
    lines = (json.dumps({"path": name, "quality": score}) for name, score in by_name.items())
    (tmp_path / "theirs.jsonl").write_text("\n".join(lines))
    other = qfm(*command[:3], tmp_path / "theirs.jsonl", *command[4:])
    assert (other.code, f"{expected:.4f}" in other.out) == (0, True)
    answer = qfm(*command, "--split", "test", "--device", "cpu")
    assert answer.code == 2
    assert "--split and --device have no effect on --scores" in answer.err
    answer = qfm("evaluate", labels, "--scores", file)
    assert "there is no score column 'score'" in answer.err
    assert "with --column" in answer.err


KINDS = ("blur", "jpeg", "noise")
IMAGES = [f"img{n // 4}_{n % 4}.png" for n in range(16)]


@pytest.fixture
def degraded(tmp_path, monkeypatch):
    """Labels of images whose bare names occur three times; writes scores of some as CSV."""
    monkeypatch.chdir(tmp_path)
    names = [f"{kind}/{image}" for image in IMAGES for kind in KINDS]
    lines = "".join(f"{name},{i}\n" for i, name in enumerate(names))
    Path("labels.csv").write_text(f"name,MOS score\n{lines}")

    def scores(paths):
        lines = "".join(f"{path},{i}\n" for i, path in enumerate(paths))
        Path("scores.csv").write_text(f"path,score\n{lines}")
        return (
            "evaluate",
            "labels.csv",
            "--scores",
            "scores.csv",
            "--label",
            "mos score",
            "--bootstrap",
            0,
        )

    return names, scores


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        ([f"jpeg/{image}" for image in IMAGES], "32 of the 48 .*: its scores are of jpeg/img0_0"),
        (IMAGES, "any of the 48 .*: blur/img0_0.png could be img0_0.png, and each score belongs"),
        (
            [f"{run}/{kind}/{i}" for i in IMAGES for kind in KINDS for run in "xy"],
            "any of the 48 .* could be x/blur/img0_0.png, y/blur/img0_0.png, and each score",
        ),
    ],
)
def test_scores_of_other_images_are_refused(qfm, degraded, paths, why):
    _, scores = degraded
    answer = qfm(*scores(paths))
    assert answer.code == 2
    assert re.search(f"scores.csv has no score for {why}", answer.err)
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""


@pytest.mark.parametrize(
    "root", ["img/", "/data/run 1/img/", "C:\\img\\", "https://host/img/", "./"]
)
def test_scores_are_found_under_any_folder(qfm, degraded, root):
    names, scores = degraded
    separator = "\\" if "\\" in root else "/"
    paths = [f"{root}{name.replace('/', separator)}" for name in names]
    answer = qfm(*scores([*paths, f"{root}other.png"]))
    assert answer.code == 0, answer.err
    assert "1.0000" in answer.out  # the SRCC: each score belongs to its image
    assert "scores: 1 scores of images without a label are left out" in answer.err


def test_a_row_without_a_score_is_no_score(qfm, degraded):
    names, scores = degraded
    command = scores(names)
    lines = Path("scores.csv").read_text().splitlines()
    Path("scores.csv").write_text("\n".join([*lines[:5], f"{names[4]},", *lines[6:]]))
    answer = qfm(*command)
    assert answer.code == 2
    assert f"no score for 1 of the 48 rated images ({names[4]}): their rows have none" in answer.err
    Path("scores.csv").write_text("\n".join([*lines, "unreadable.png,"]))
    assert qfm(*command).code == 0  # an error in an unrated image


def test_a_score_files_options_are_no_models(qfm, labels, photo_folder, tiny_model_folder):
    answer = qfm(
        "evaluate", labels, "--model", tiny_model_folder, "--root", photo_folder, "--column", "x"
    )
    assert answer.code == 2
    assert "--column has no effect without --scores" in answer.err


def test_the_labels_column_has_an_option(qfm, labels, photo_folder, tiny_model_folder):
    labels.write_text(labels.read_text().replace("mos", "dmos", 1))
    command = [
        "evaluate",
        labels,
        "--model",
        tiny_model_folder,
        "--root",
        photo_folder,
        "--bootstrap",
        0,
    ]
    answer = qfm(*command)
    assert answer.code == 2
    assert "only the columns name, dmos, subset" in answer.err
    assert "--label" in answer.err
    assert qfm(*command, "--label", "DMOS").code == 0


def test_the_tables_own_folder_is_the_default_root(qfm, labels, photo_folder, tiny_model_folder):
    for photo in photo_folder.iterdir():
        shutil.copy(photo, labels.parent)
    assert qfm("evaluate", labels, "--model", tiny_model_folder, "--bootstrap", 0).code == 0


def test_a_split_is_that_of_the_card_and_a_look_at_test_is_recorded(
    qfm, labels, photo_folder, tiny_model_folder, tmp_path, monkeypatch
):
    ledger = tmp_path / "ledger.csv"
    monkeypatch.setenv("QFM_TEST_LEDGER", str(ledger))
    table = read_table(labels)
    split = split_by_content(table, test=0.5, validation=0.1, seed=0)
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    card = json.loads((model / "card.json").read_text())
    card["training"] = {
        "split_sha256": split.sha256,
        "recipe": {"data": {"test": 0.5, "validation": 0.1, "split_seed": 0}},
    }
    (model / "card.json").write_text(json.dumps(card))
    images = tmp_path / "images.csv"
    answer = qfm(
        "evaluate", labels, "--model", model, "--root", photo_folder, "--split", "test",
        "--per-image", images, "--bootstrap", 0, "--why", "a release",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    with images.open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(split.test)
    with ledger.open(newline="") as file:
        (look,) = csv.DictReader(file)
    assert (look["why"], look["split_sha256"]) == ("a release", split.sha256)
    assert int(look["images"]) == len(split.test)
    command = ["evaluate", labels, "--model", model, "--root", photo_folder, "--bootstrap", 0]
    answer = qfm(*command, "--split", "train")
    assert answer.code == 0
    assert "training split" not in answer.err
    learned = f"{len(split.train)} of these {len(table)} images are the training split of {model}"
    assert f"{learned}: --split test leaves them out." in " ".join(qfm(*command).err.split())
    beside = shutil.copytree(photo_folder, tmp_path / "photos") / labels.name
    shutil.copy(labels, beside)
    crossed = qfm("bench", "cross", beside, "--model", model, "--bootstrap", 0)
    assert f"{learned}: a cross-dataset test needs other images." in " ".join(crossed.err.split())
    assert ledger.read_text().count("\n") == 2  # only test evaluations are recorded
    answer = qfm(*command, "--why", "none")
    assert answer.code == 2
    assert "--why has no effect without --split test" in answer.err
    refused = qfm(
        "evaluate", labels, "--model", tiny_model_folder, "--root", photo_folder, "--split", "test"
    )
    assert refused.code == 2
    assert "records no rule" in refused.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--root", "."], "photo_00.jpg"),
        (["--by", "kind"], "kind"),
        (["--out", "figures.parquet"], "must end in .csv"),
        (["--per-image", "gone/images.csv"], "there is no folder gone"),
        (["--device", "warp"], "The device 'warp' cannot be used"),
    ],
)
def test_mistakes_are_one_sentence(
    qfm, labels, photo_folder, tiny_model_folder, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(labels.parent)
    root = [] if "--root" in arguments else ["--root", photo_folder]
    answer = qfm("evaluate", labels, "--model", tiny_model_folder, *root, *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,mos\nphoto_00.jpg,1\nphoto_01.jpg,2\n", "3"),
        ("name,mos\nphoto_00.jpg,1\nphoto_01.jpg,nan\nphoto_02.jpg,3\n", "line 3"),
        ("name,mos\nphoto_00.jpg,5\nphoto_01.jpg,5\nphoto_02.jpg,5\n", "equal"),
        ("name\nphoto_00.jpg\n", "mos"),
        ("", "labels.csv"),
    ],
)
def test_tables_that_cannot_be_used(
    qfm, labels, photo_folder, tiny_model_folder, content, sentence
):
    labels.write_text(content)
    answer = qfm("evaluate", labels, "--model", tiny_model_folder, "--root", photo_folder)
    assert answer.code == 2
    assert answer.out == ""
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_constant_scores_are_an_error(qfm, photo_folder, tiny_model_folder, tmp_path):
    for number in range(6):
        shutil.copy(photo_folder / "photo_04.png", tmp_path / f"{number}.png")
    table = tmp_path / "labels.csv"
    table.write_text("name,mos\n" + "".join(f"{n}.png,{n}\n" for n in range(6)))
    answer = qfm("evaluate", table, "--model", tiny_model_folder)
    assert answer.code == 2
    assert "scores" in answer.err


def test_the_model_that_is_taken_where_none_is_named_is_said(qfm, labels, photo_folder):
    answer = qfm("evaluate", labels, "--root", photo_folder, "--bootstrap", 0)
    assert answer.code == 0, answer.err
    assert "Scored 12 images with default.\n" in answer.err


def test_excluded_names_are_left_out_of_a_second_set_of_figures(qfm, labels, tmp_path):
    table = read_table(labels)
    scores = np.random.default_rng(5).normal(0, 1, len(table)) + table.mos
    file, out, names = tmp_path / "theirs.csv", tmp_path / "figures.csv", tmp_path / "names.txt"
    rows = zip(table.names, scores, strict=True)
    file.write_text("name,score\n" + "".join(f"{name},{score}\n" for name, score in rows))
    names.write_text("\ufeff" + "\r\n".join(table.names[:3]) + "\r\n\r\n")
    command = ["evaluate", labels, "--scores", file, "--out", out, "--exclude", names]
    command += ["--bootstrap", 100]
    answer = qfm(*command)
    assert answer.code == 0, answer.err
    with out.open(newline="") as stream:
        found = {(row["subset"], row["metric"]): row for row in csv.DictReader(stream)}
    for subset, kept in (("whole", slice(None)), ("whole (kept)", slice(3, None))):
        expected = stats.spearmanr(scores[kept], table.mos[kept]).statistic
        assert float(found[subset, "srcc"]["value"]) == pytest.approx(expected)
        assert int(found[subset, "srcc"]["n"]) == len(scores[kept])
    assert "(kept)" in answer.out
    names.write_text("nobody.png\n")
    assert "1 excluded names are not in" in qfm(*command).err
    names.write_text("\n".join(table.names))
    assert f"All {len(table)} images" in qfm(*command).err
    names.write_text("\n")
    assert "names no image" in qfm(*command).err
    assert "cannot be read" in qfm(*command, "--exclude", tmp_path / "none.txt").err


@pytest.mark.parametrize("number", [1, 99, -1])
def test_too_few_resamples_make_no_interval(qfm, number):
    for verb in (("evaluate", "labels.csv"), ("compare", "a.csv"), ("bench", "cross", "a.csv")):
        answer = qfm(*verb, "--bootstrap", number)
        assert answer.code == 2
        assert answer.err.startswith("qfm: --bootstrap: ")
        assert "100: see qfm" in answer.err
