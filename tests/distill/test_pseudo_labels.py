"""Tables of pseudo-labels: what a teacher said, read back; an interruption leaves no trace."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.distill.pseudo_labels import read_pseudo_labels, tokens_beside, write_pseudo_labels
from qfm_iqm.distill.teacher import PseudoLabel, PseudoLabelConfig, pseudo_label
from qfm_iqm.errors import TableError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.folder import load_model

CROP = 48
CONFIG = PseudoLabelConfig(extra_crops=1, degradation_sequences=1, grid=3)


@pytest.fixture(scope="module")
def teacher(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Five photos, some of them oddly named."""
    root = tmp_path_factory.mktemp("taught")
    draw = np.random.default_rng(8)
    names = ["a.png", 'od, d "name" ü.png', "c.png", "=1+1.png", "# e.png"]
    for name in names:
        pixels = draw.integers(0, 256, (60, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return [(name, f"={name}", root / name) for name in names]


def written(teacher, images, path, request=CONFIG, stop=None):
    """Has the teacher score; `stop` interrupts after so many images."""

    def progress(done, total):
        for number, one in enumerate(done, 1):
            yield one
            if number == stop:
                raise KeyboardInterrupt

    return write_pseudo_labels([teacher], images, request, path, progress)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_the_teacher_said_is_read_back(teacher, images, tmp_path):
    path = tmp_path / "p.csv"
    count = written(teacher, images, path)
    found = read_pseudo_labels(path)
    assert found.preprocessing == Preprocessing(crop=CROP)
    assert found.teachers == (teacher.card.weights_sha256,)
    said = list(pseudo_label([teacher], images, CONFIG))
    rows = [row for labels, _ in said for row in labels]
    assert count == len(rows) == len(found.rows)
    assert list(found.rows) == [replace(r, score=pytest.approx(r.score, abs=5.1e-6)) for r in rows]
    tokens = torch.cat([tokens for _, tokens in said])
    assert found.tokens.shape == (9, 64)
    for row in (0, 5, count - 1):
        torch.testing.assert_close(found.tokens.get(row), tokens[row], atol=2e-3, rtol=1e-3)
    assert sorted(files(tmp_path)) == ["p.csv", "p.csv.tokens"]
    with pytest.raises(IndexError):
        found.tokens.get(count)


def test_it_is_a_csv_below_a_line_of_facts(teacher, images, tmp_path):
    path = tmp_path / "p.csv"
    written(teacher, images, path, replace(CONFIG, grid=None))
    first, *rest = path.read_text("utf-8").splitlines()
    facts = json.loads(first.removeprefix("# "))
    assert Preprocessing(**facts["preprocessing"]) == Preprocessing(crop=CROP)
    assert facts["request"]["extra_crops"] == 1
    assert "tokens" not in facts
    rows = list(csv.DictReader(rest))
    assert list(rows[0]) == ["name", "content", "top", "left", "distortion", "level", "score"]
    # A spreadsheet finds no formula.
    written_names = [f"'{name}" if name[0] == "=" else name for name, _, _ in images]
    assert list(dict.fromkeys(row["name"] for row in rows)) == written_names
    assert {row["content"][:2] for row in rows} == {"'="}
    assert sorted(files(tmp_path)) == ["p.csv"]


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("torn", [0, 3, 40])
def test_an_interrupted_table_goes_on_to_the_same_bytes(teacher, images, tmp_path, stop, torn):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    written(teacher, images, whole / "p.csv")
    with pytest.raises(KeyboardInterrupt):
        written(teacher, images, cut / "p.csv", stop=stop)
    assert not (cut / "p.csv").exists()
    partial = cut / ".p.csv.partial"
    if torn:  # as a kill in the middle of a write leaves it
        partial.write_bytes(partial.read_bytes()[:-torn])
    asked = []

    def seen(done, total):
        asked.append(total)
        return done

    write_pseudo_labels([teacher], images, CONFIG, cut / "p.csv", seen)
    assert asked == [len(images) - stop + 1]  # the last image is done again
    assert files(cut) == files(whole)


@pytest.mark.parametrize("change", ["teacher", "seed", "images"])
def test_what_is_left_of_another_question_is_not_used(
    teacher, images, build_model, tmp_path, change
):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        written(teacher, images, first / "p.csv", stop=3)
    other = {"teacher": teacher, "images": images, "request": CONFIG}
    if change == "teacher":
        other["teacher"] = build_model(seed=1)
        other["teacher"].card.weights_sha256 = "1" * 64
    elif change == "seed":
        other["request"] = replace(CONFIG, seed=1)
    else:
        other["images"] = images[::-1]
    for folder in (first, second):
        written(path=folder / "p.csv", **other)
    assert files(first) == files(second)


def test_a_grid_that_does_not_divide_is_refused(teacher, images, tmp_path):
    with pytest.raises(TableError, match="9 tokens cannot be averaged to 2 x 2"):
        written(teacher, images, tmp_path / "p.csv", replace(CONFIG, grid=2))
    assert not (tmp_path / "p.csv").exists()


def test_tokens_must_be_those_of_the_table(teacher, images, tmp_path):
    path = tmp_path / "p.csv"
    written(teacher, images, path)
    beside = tokens_beside(path)
    content = beside.read_bytes()
    for spoiled in (content[:-2], content + b"00"):
        beside.write_bytes(spoiled)
        with pytest.raises(TableError, match="teacher's tokens"):
            read_pseudo_labels(path)
    beside.unlink()
    with pytest.raises(TableError, match=r"teacher's tokens .* cannot be read"):
        read_pseudo_labels(path)


def spoiled(**cells):
    row = {"name": "a", "content": "c", "top": 0, "left": 0, "distortion": "", "level": 0,
           "score": 1.0, **cells}  # fmt: skip
    facts = {"preprocessing": {"crop": 32, "shorter_side": None}, "teachers": ["0"]}
    kept = {key: value for key, value in row.items() if value is not None}
    lines = [f"# {json.dumps(facts)}", ",".join(kept), ",".join(map(str, kept.values()))]
    return "\n".join(lines) + "\n"


def test_the_unspoiled_table_is_read(tmp_path):
    (tmp_path / "p.csv").write_text(spoiled())
    assert read_pseudo_labels(tmp_path / "p.csv").rows == (PseudoLabel("a", "c", 0, 0, "", 0, 1.0),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name,mos\na,1\n",
        "# {}\nname\n",
        "# []\nname\n",
        "# 3\n",
        '# {"preprocessing": {"crop": 4}, "teachers": []}\n',
        spoiled(score="high"),
        spoiled(score="nan"),
        spoiled(score="inf"),
        spoiled(top="1.5"),
        spoiled(top=-1),
        spoiled(left=-1),
        spoiled(left=None),
        spoiled(level=None),
        spoiled(distortion="fog", level=1),
        spoiled(distortion="gaussian blur", level=0),
        spoiled(distortion="gaussian blur", level=6),
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
    with pytest.raises(TableError, match=r"p\.csv is no table of pseudo-labels"):
        read_pseudo_labels(path)
