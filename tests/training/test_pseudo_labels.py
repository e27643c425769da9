"""Tables of pseudo-labels: the teacher's scores, read back; interruptions change nothing."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.model.folder import load_model
from qfm_iqm.training.pseudo_labels import PseudoLabel, read_pseudo_labels, write_pseudo_labels

CROP = 48


@pytest.fixture(scope="module")
def teacher(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Five photos, one smaller than a crop, some of them oddly named."""
    root = tmp_path_factory.mktemp("taught")
    draw = np.random.default_rng(8)
    names = ["a.png", 'od, d "name" ü.png', "c.png", "=1+1.png", "# e.png"]
    for name, (height, width) in zip(
        names, [(60, 70), (48, 48), (30, 60), (50, 121), (60, 70)], strict=True
    ):
        pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return [(name, f"={name}", root / name) for name in names]


def written(teacher, images, path, stop=None):
    """Lets the teacher score; `stop` interrupts after this many images."""

    def progress(done, total):
        for number, one in enumerate(done, 1):
            yield one
            if number == stop:
                raise KeyboardInterrupt

    write_pseudo_labels(teacher, images, path, progress)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.inference_mode()
def scored_alone(teacher, pixels_HWC, row):
    """The teacher's prediction for one crop, cut with NumPy."""
    window = pixels_HWC[row.top : row.top + CROP, row.left : row.left + CROP]
    crop = torch.tensor(window.transpose(2, 0, 1).copy()).float() / 255
    return teacher.eval().network(crop[None]).item()


def test_scores_are_the_teachers_own_of_the_covering_crops(teacher, images, tmp_path):
    path = tmp_path / "p.csv"
    teacher.network.train()
    written(teacher, images, path)
    rows, preprocessing = read_pseudo_labels(path)
    assert preprocessing == Preprocessing(crop=CROP)
    assert [row.name for row in rows] == [
        name for (name, _, _), count in zip(images, (4, 1, 2, 6, 4), strict=True)
        for _ in range(count)
    ]  # fmt: skip
    for name, content, file in images:
        mine = [row for row in rows if row.name == name]
        pixels = np.asarray(Image.open(file))
        pad = [(0, max(0, CROP - side)) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, (*pad, (0, 0)), mode="symmetric")
        assert [(row.top, row.left) for row in mine] == grid_positions(*pixels.shape[:2], CROP)
        for row in mine:
            assert row.content == content
            assert row.score == pytest.approx(scored_alone(teacher, pixels, row), abs=1e-4)


def test_it_is_a_csv_below_a_line_of_facts(teacher, images, tmp_path):
    path = tmp_path / "p.csv"
    written(teacher, images, path)
    first, *rest = path.read_text("utf-8").splitlines()
    facts = json.loads(first.removeprefix("# "))
    assert facts["teacher"] == teacher.card.weights_sha256
    rows = list(csv.DictReader(rest))
    assert list(rows[0]) == ["name", "content", "top", "left", "score"]
    # Not a formula for a spreadsheet.
    written_names = [f"'{name}" if name[0] == "=" else name for name, _, _ in images]
    assert list(dict.fromkeys(row["name"] for row in rows)) == written_names
    assert {row["content"][:2] for row in rows} == {"'="}
    assert sorted(files(tmp_path)) == ["p.csv"]


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("torn", [0, 3, 30])
def test_an_interrupted_table_goes_on_to_the_same_bytes(teacher, images, tmp_path, stop, torn):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    written(teacher, images, whole / "p.csv")
    with pytest.raises(KeyboardInterrupt):
        written(teacher, images, cut / "p.csv", stop=stop)
    assert not (cut / "p.csv").exists()
    partial = cut / ".p.csv.partial"
    if torn:  # as after a kill during a write
        partial.write_bytes(partial.read_bytes()[:-torn])
    asked = []

    def seen(done, total):
        asked.append(total)
        return done

    write_pseudo_labels(teacher, images, cut / "p.csv", seen)
    assert len(images) - stop < asked[0] <= len(images)  # finished ones are kept, except the last
    assert files(cut) == files(whole)


@pytest.mark.parametrize("change", ["teacher", "images"])
def test_what_is_left_of_another_question_is_not_used(
    teacher, images, build_model, tmp_path, change
):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        written(teacher, images, first / "p.csv", stop=3)
    other = {"teacher": teacher, "images": images}
    if change == "teacher":
        other["teacher"] = build_model(seed=1)
        other["teacher"].card.weights_sha256 = "1" * 64
    else:
        other["images"] = images[::-1]
    for folder in (first, second):
        written(path=folder / "p.csv", **other)
    assert files(first) == files(second)


def test_an_image_that_cannot_be_read_is_refused_by_name(teacher, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    images = [("broken.jpg", "c", tmp_path / "broken.jpg")]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        written(teacher, images, tmp_path / "p.csv")


def spoiled(**cells):
    row = {"name": "a", "content": "c", "top": 0, "left": 0, "score": 1.0, **cells}
    facts = {"preprocessing": {"crop": 32, "shorter_side": None}}
    kept = {key: value for key, value in row.items() if value is not None}
    lines = [f"# {json.dumps(facts)}", ",".join(kept), ",".join(map(str, kept.values()))]
    return "\n".join(lines) + "\n"


def test_the_unspoiled_table_is_read(tmp_path):
    (tmp_path / "p.csv").write_text(spoiled())
    assert read_pseudo_labels(tmp_path / "p.csv")[0] == [PseudoLabel("a", "c", 0, 0, 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name,mos\na,1\n",
        "# {}\nname\n",
        "# []\nname\n",
        "# 3\n",
        '# {"preprocessing": {"crop": 4}}\n',
        spoiled(score="high"),
        spoiled(score="nan"),
        spoiled(score="inf"),
        spoiled(top="1.5"),
        spoiled(top=-1),
        spoiled(left=-1),
        spoiled(left=None),
        b"\xff\xfe\x00",
        None,
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, text):
    path = tmp_path / "p.csv"
    if isinstance(text, bytes):
        path.write_bytes(text)
    elif text is not None:
        path.write_text(text)
    with pytest.raises(TableError, match=r"p\.csv is not a table of pseudo-labels"):
        read_pseudo_labels(path)
