import itertools
import os
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.scoring.scorer import Scorer

TOLERANCE = 1e-5 * 10 + 1e-6  # of the label's standard deviation, and the rounding of a row


@pytest.fixture(scope="module")
def model(build_model):
    return build_model(crop=48)


@pytest.fixture(scope="module")
def paths(photo_folder):
    return sorted(str(path) for path in photo_folder.iterdir())


@pytest.fixture(scope="module")
def alone(model, paths):
    """Each image by itself, one crop at a time."""
    return {path: model.score(path, batch_size=1) for path in paths}


def assert_same(rows, alone):
    for row in rows:
        expected = alone[row.path]
        assert row.status == "ok"
        assert row.error == ""
        assert abs(row.score - expected.value) < TOLERANCE
        assert abs(row.spread - expected.spread) < TOLERANCE
        assert (row.width, row.height) == (expected.width, expected.height)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32, 1000])
@pytest.mark.parametrize("readers", [1, 5])
def test_scores_are_those_of_each_image_alone(model, paths, alone, batch_size, readers):
    rows = list(Scorer(model, batch_size=batch_size, readers=readers).score_paths(paths))
    assert [row.path for row in rows] == paths
    assert_same(rows, alone)


@pytest.mark.parametrize("seed", range(4))
def test_order_and_neighbours_do_not_matter(model, paths, alone, seed):
    draw = random.Random(seed)
    some = draw.choices(paths, k=draw.randint(1, 15))  # repeated, left out, in any order
    rows = list(Scorer(model, batch_size=draw.randint(1, 9)).score_paths(some))
    assert [row.path for row in rows] == some
    assert_same(rows, alone)


def test_the_same_run_gives_the_same_bits(model, paths):
    runs = [list(Scorer(model, readers=n).score_paths(paths)) for n in (1, 4, 4)]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_model_in_training_is_set_to_evaluation(build_model, paths, backbone):
    model = build_model(backbone, crop=64)
    expected = {path: model.score(path) for path in paths}
    rows = list(Scorer(model.train(), batch_size=7).score_paths(paths))
    assert_same(rows, expected)


def test_what_cannot_be_read_is_a_row_in_its_place(model, paths, alone, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(Path(paths[0]).read_bytes()[:-200])
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it to read would wait for ever
    broken = [str(tmp_path / name) for name in ("text.jpg", "empty.png", "cut.jpg", "pipe.jpg")]
    broken += [str(tmp_path / "gone.jpg"), str(tmp_path), ""]
    mixed = [item for pair in zip(broken, paths, strict=False) for item in pair]
    for batch_size in (1, 32):
        rows = list(Scorer(model, batch_size=batch_size).score_paths(mixed))
        assert [row.path for row in rows] == mixed
        assert_same(rows[1::2], alone)
        for row in rows[::2]:
            assert row.status == "error"
            assert (row.score, row.spread, row.width, row.height) == (None,) * 4
            assert row.error
            assert "\n" not in row.error
            assert row.model == "tiny-test_vit"


def test_only_broken_files_and_no_files(model, tmp_path):
    gone = [str(tmp_path / f"{n}.jpg") for n in range(40)]
    assert [row.path for row in Scorer(model).score_paths(gone)] == gone
    assert list(Scorer(model).score_paths([])) == []


def test_the_reading_policy_is_an_option(model, paths, tmp_path):
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(Path(paths[0]).read_bytes()[:-200])
    (row,) = Scorer(model, allow_truncated=True).score_paths([cut])
    assert row.status == "ok"
    assert row.path == str(cut)
    (row,) = Scorer(model, max_pixels=100).score_paths(paths[:1])
    assert row.status == "error"
    assert "pixel" in row.error


def test_one_pixel_gives_a_row(model, tmp_path):
    Image.new("L", (1, 1), 77).save(tmp_path / "one.png")
    (row,) = Scorer(model).score_paths([str(tmp_path / "one.png")])
    assert (row.status, row.width, row.height, row.spread) == ("ok", 1, 1, 0.0)


def test_files_are_read_a_few_ahead_and_no_more(model, paths):
    asked = []

    def endless():
        for path in itertools.cycle(paths):
            asked.append(path)
            yield path

    rows = Scorer(model, batch_size=2, readers=2).score_paths(endless())
    first = list(itertools.islice(rows, 30))
    rows.close()
    assert len(first) == 30
    assert len(asked) < 30 + 10


def test_a_defect_in_reading_is_not_hidden(model, paths, monkeypatch):
    def defect(*_, **__):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("qfm_iqm.scoring.scorer.read_image", defect)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(Scorer(model).score_paths(paths))

    def refuse(path, **_):
        raise ImageError(f"{path} is refused.")

    monkeypatch.setattr("qfm_iqm.scoring.scorer.read_image", refuse)
    assert {row.status for row in Scorer(model).score_paths(paths)} == {"error"}


def test_scores_come_from_full_batches(model, paths, monkeypatch):
    sizes = []
    network = type(model.network)
    real = network.forward

    def counting(self, crops):
        sizes.append(len(crops))
        return real(self, crops)

    monkeypatch.setattr(network, "forward", counting)
    list(Scorer(model, batch_size=4).score_paths(paths))
    assert set(sizes[:-1]) == {4}
    assert 1 <= sizes[-1] <= 4


def test_no_gradient_is_kept(model, paths):
    list(Scorer(model).score_paths(paths[:2]))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
