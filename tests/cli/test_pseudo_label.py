import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.distill.pseudo_labels import read_pseudo_labels
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import grid_positions
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.model.folder import load_model


@pytest.fixture
def table(photo_folder, tmp_path):
    """Names and contents: a teacher needs no labels."""
    names = sorted(path.name for path in photo_folder.iterdir())
    path = tmp_path / "images.csv"
    path.write_text("name,content\n" + "".join(f"{n},scene {n[6]}\n" for n in names))
    return path


def test_every_crop_of_the_grid_has_the_teachers_score(
    qfm, table, photo_folder, tiny_model_folder, tmp_path
):
    out = tmp_path / "pseudo.csv"
    said = qfm(
        "data", "pseudo-label", table, "--model", tiny_model_folder, "-o", out,
        "--root", photo_folder,
        "--extra-crops", 2,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert said.out == ""
    labels = read_pseudo_labels(out)
    teacher = load_model(tiny_model_folder).eval()
    assert labels.teachers == (teacher.card.weights_sha256,)
    assert labels.preprocessing == teacher.card.preprocessing
    for name, content in zip(read_table(table, require_mos=False).names, "0" * 10, strict=False):
        image = resize_and_pad(read_image(photo_folder / name), labels.preprocessing)
        mine = [row for row in labels.rows if row.name == name]
        grid = grid_positions(*image.shape[1:], 48)
        assert [(row.top, row.left) for row in mine][: len(grid)] == grid
        assert len(mine) == len(grid) + 2
        assert {row.content for row in mine} == {f"scene {content}"}
        for row in mine:
            crop = image[:, row.top : row.top + 48, row.left : row.left + 48]
            with torch.inference_mode():  # as it lies in the image, not turned to one side
                answer = teacher.network(crop[None]).item()
            assert row.score == pytest.approx(answer, abs=2e-4)
    assert f"{len(labels.rows)} crops of 12 images: {out}" in said.err


def test_the_seed_alone_decides(qfm, table, photo_folder, tiny_model_folder, tmp_path):
    written = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.csv"
        arguments = ("-o", out, "--root", photo_folder, "--seed", seed)
        assert (
            qfm("data", "pseudo-label", table, "--model", tiny_model_folder, *arguments).code == 0
        )
        written.append(out.read_bytes())
    assert written[0] == written[1] != written[2]


def trained_on(table, model, *, test, validation):
    """A split of a table, written into a model's card."""
    split = split_by_content(table, test=test, validation=validation, seed=0)
    card = json.loads((model / "card.json").read_text())
    card["training"] = {
        "split_sha256": split.sha256,
        "recipe": {"data": {"test": test, "validation": validation, "split_seed": 0}},
    }
    (model / "card.json").write_text(json.dumps(card))
    return split


def test_only_a_part(qfm, table, photo_folder, tiny_model_folder, tmp_path):
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    split = trained_on(read_table(table, require_mos=False), model, test=0.1, validation=0)
    out = tmp_path / "part.csv"
    arguments = (table, "-o", out, "--root", photo_folder, "--split", "train")
    answer = qfm("data", "pseudo-label", *arguments, "--model", model)
    assert answer.code == 0, answer.err
    assert {row.name for row in read_pseudo_labels(out).rows} == set(split.train)
    assert qfm("data", "pseudo-label", *arguments, "--model", tiny_model_folder).code == 2


def test_what_shows_a_held_out_image_again_is_left_out(
    qfm, photo_folder, tiny_model_folder, tmp_path
):
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    rated = tmp_path / "rated.csv"
    rows = (f"{path.name},{i}" for i, path in enumerate(sorted(photo_folder.iterdir())))
    rated.write_text("name,mos\n" + "\n".join(rows) + "\n")
    split = trained_on(read_table(rated), model, test=0.25, validation=0.25)
    pool = tmp_path / "pool"
    pool.mkdir()
    # Other names and bytes: what they show alone gives them away.
    originals = {part: getattr(split, part)[0] for part in ("train", "validation", "test")}
    for part, name in originals.items():
        Image.open(photo_folder / name).save(pool / f"{part}.jpg", quality=70)
        shutil.copy(photo_folder / name, pool)
    for name in (*split.validation, *split.test):
        shutil.copy(photo_folder / name, pool)
    table, out = pool / "pool.csv", tmp_path / "pseudo.csv"
    table.write_text("name\n" + "".join(f"{part}.jpg\n" for part in originals))
    shutil.copy(rated, pool)
    answer = qfm(
        "data", "pseudo-label", table, "--model", model, "-o", out, "--held-out", pool / "rated.csv"
    )
    assert answer.code == 0, answer.err
    assert "2 images leak and are left out: " in answer.err
    assert {row.name for row in read_pseudo_labels(out).rows} == {"train.jpg"}
    with (tmp_path / "pseudo.leaks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    leaks = {(Path(row["image"]).name, Path(row["other"]).name) for row in rows}
    assert {(f"{part}.jpg", originals[part]) for part in ("validation", "test")} <= leaks


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "out.parquet"], "must end in .csv"),
        (["-o", "gone/out.csv"], "there is no folder gone"),
        (["-o", "out.csv", "--root", "."], "photo_00.jpg"),
        (["-o", "out.csv", "--device", "warp"], "The device 'warp' cannot be used"),
    ],
)
def test_mistakes_are_one_sentence(
    qfm, table, photo_folder, tiny_model_folder, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(table.parent)
    root = [] if "--root" in arguments else ["--root", photo_folder]
    answer = qfm("data", "pseudo-label", table, "--model", tiny_model_folder, *root, *arguments)
    assert answer.code == 2
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not (table.parent / "out.csv").exists()


def test_an_unreadable_image_stops_it(qfm, table, photo_folder, tiny_model_folder, tmp_path):
    photos = shutil.copytree(photo_folder, tmp_path / "photos")
    (photos / "photo_03.jpg").write_text("no image")
    out = tmp_path / "out.csv"
    answer = qfm(
        "data", "pseudo-label", table, "--model", tiny_model_folder, "-o", out, "--root", photos
    )
    assert answer.code == 2
    assert "photo_03.jpg" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not out.exists()
