import hashlib
import itertools
import os
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes.base import TOLERANCE as RUNTIME_TOLERANCE
from qfm_iqm.scoring.runtimes.torch_runtime import TorchRuntime
from qfm_iqm.scoring.scorer import Scorer

TOLERANCE = 1e-5 * 10 + 1e-6  # 1e-5 of the labels' standard deviation, plus the rounding of a row


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
        assert abs(row.crop_std - expected.crop_std) < TOLERANCE
        assert (row.width, row.height) == (expected.width, expected.height)


@pytest.mark.parametrize(
    ("readers", "processes", "batch_size"),
    [(1, False, n) for n in (1, 2, 5, 32, 1000)]
    + [(5, False, n) for n in (1, 2, 5, 32, 1000)]
    + [(1, True, 5), (3, True, 1), (3, True, 1000)],  # processes take seconds to start
)
def test_scores_are_those_of_each_image_alone(model, paths, alone, batch_size, readers, processes):
    scorer = Scorer(model, batch_size=batch_size, readers=readers, processes=processes)
    rows = list(scorer.score_paths(paths))
    assert [row.path for row in rows] == paths
    assert_same(rows, alone)


def test_extra_scales_are_scored_as_the_model_alone_does(model, paths):
    preprocessing = Preprocessing(crop=48, shorter_side=80, extra_scales=(50,))
    twice = QualityModel(
        model.network, model.card.model_copy(update={"preprocessing": preprocessing})
    )
    alone = {path: twice.score(path) for path in paths}
    assert {score.n_crops for score in alone.values()} >= {4 + 2, 4 + 4}
    assert_same(Scorer(twice).score_paths(paths), alone)
    values = Scorer(twice).score_batch([read_image(path) for path in paths])
    assert values.tolist() == pytest.approx([alone[path].value for path in paths], abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
def test_order_and_neighbors_do_not_matter(model, paths, alone, seed):
    draw = random.Random(seed)
    some = draw.choices(paths, k=draw.randint(1, 15))  # repeated, omitted, in any order
    rows = list(Scorer(model, batch_size=draw.randint(1, 9)).score_paths(some))
    assert [row.path for row in rows] == some
    assert_same(rows, alone)


def test_the_same_run_gives_the_same_bits(model, paths):
    ways = [(1, False), (4, False), (4, False), (1, True), (2, True)]
    runs = [
        list(Scorer(model, readers=n, processes=p, batch_size=5).score_paths(paths))
        for n, p in ways
    ]
    assert all(run == runs[0] for run in runs)


def test_a_row_does_not_wait_for_a_large_image_behind_it(model, tmp_path, monkeypatch):
    for name, side in (("small.png", 48), ("large.png", 240)):
        Image.effect_noise((side, side), 50).save(tmp_path / name)
    scorer, batches = Scorer(model, batch_size=2), []
    run = scorer.runtime.run
    monkeypatch.setattr(
        scorer.runtime, "run", lambda crops: batches.append(len(crops)) or run(crops)
    )
    rows = scorer.score_paths([tmp_path / "small.png", tmp_path / "large.png"])
    assert next(rows).width == 48
    assert batches == [2]
    assert next(rows).width == 240
    assert sum(batches) == 1 + 25


def test_a_row_says_what_was_scored_and_how(model, paths, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    rows = list(Scorer(model).score_paths([*paths, tmp_path / "text.jpg", tmp_path / "gone.jpg"]))
    for row in rows[:-1]:
        assert row.sha256 == hashlib.sha256(Path(row.path).read_bytes()).hexdigest()
    assert rows[-1].sha256 == ""
    for row in rows:
        assert (row.model, row.runtime, row.precision) == ("tiny-test_vit", "torch", "fp32")
        assert 0 < row.seconds < 60
    assert {row.weights for row in rows} == {model.card.weights_sha256}


def test_groups_are_scored_as_each_alone(model, paths):
    groups = [paths[:5], [], paths[5:6], paths[6:], []]
    together = list(Scorer(model, batch_size=4).score_groups(iter(groups)))
    apart = [list(Scorer(model, batch_size=4).score_paths(group)) for group in groups if group]
    assert together == apart  # to the bit


def test_files_of_the_next_group_are_read_while_the_last_is_on_its_way(model, paths):
    asked = []

    def groups():
        for number in range(3):
            asked.append(number)
            yield paths[:2]

    rows = Scorer(model, readers=4).score_groups(groups())
    next(rows)
    assert len(asked) > 1
    rows.close()


def test_images_in_memory_are_scored_like_files(model, paths, alone):
    images = [read_image(path) for path in paths]
    scorer = Scorer(model, batch_size=7)
    assert scorer.score_batch(images).tolist() == pytest.approx(
        [alone[path].value for path in paths], abs=TOLERANCE
    )
    batch = torch.rand(3, 3, 60, 70)
    assert torch.allclose(scorer.score_batch(batch), model(batch).double(), atol=TOLERANCE)
    assert scorer.score_batch([]).shape == (0,)
    for wrong in (torch.rand(2, 60, 70), torch.rand(1, 1, 60, 70), torch.ones(1, 3, 9, 9).int()):
        with pytest.raises(ValueError, match=r"RGB tensors \(3, H, W\)"):
            scorer.score_batch(wrong)


def test_bf16_stays_within_its_tolerance(model, paths, alone):
    rows = list(Scorer(TorchRuntime(model, precision="bf16")).score_paths(paths))
    for row in rows:
        assert row.precision == "bf16"
        assert abs(row.score - alone[row.path].value) < RUNTIME_TOLERANCE["bf16"] * 10
    assert any(abs(row.score - alone[row.path].value) > 1e-4 for row in rows)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_a_model_in_training_is_set_to_evaluation(build_model, paths, backbone):
    model = build_model(backbone, crop=64)
    expected = {path: model.score(path) for path in paths}
    model.network.train()
    rows = list(Scorer(model, batch_size=7).score_paths(paths))
    assert_same(rows, expected)


def test_what_cannot_be_read_is_a_row_in_its_place(model, paths, alone, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(Path(paths[0]).read_bytes()[:-200])
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it for reading would block forever
    broken = [str(tmp_path / name) for name in ("text.jpg", "empty.png", "cut.jpg", "pipe.jpg")]
    broken += [str(tmp_path / "gone.jpg"), str(tmp_path), ""]
    mixed = [item for pair in zip(broken, paths, strict=False) for item in pair]
    for batch_size in (1, 32):
        rows = list(Scorer(model, batch_size=batch_size).score_paths(mixed))
        assert [row.path for row in rows] == mixed
        assert_same(rows[1::2], alone)
        for row in rows[::2]:
            assert row.status == "error"
            assert (row.score, row.crop_std, row.width, row.height) == (None,) * 4
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
    assert (row.status, row.width, row.height, row.crop_std) == ("ok", 1, 1, 0.0)


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

    monkeypatch.setattr("qfm_iqm.image.load.read_resized", defect)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(Scorer(model).score_paths(paths))

    def refuse(_, __, name, **___):
        raise ImageError(f"{name} is refused.")

    monkeypatch.setattr("qfm_iqm.image.load.read_resized", refuse)
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


def test_one_path_is_one_file(model, paths, alone):
    scorer = Scorer(model)
    for one in (paths[0], Path(paths[0])):
        (row,) = scorer.score_paths(one)
        assert_same([row], alone)
    several = scorer.score_paths(Path(path) for path in paths[:3])
    assert [row.path for row in several] == paths[:3]
    assert list(scorer.score_paths([])) == []


@pytest.mark.parametrize(
    "wrong", [None, 3, b"a.jpg", bytearray(b"a.jpg"), Image.new("RGB", (9, 9))]
)
def test_what_is_no_path_is_refused(model, paths, wrong):
    scorer = Scorer(model)
    with pytest.raises(TypeError, match=f"paths must be of .*, not {type(wrong).__name__}: "):
        scorer.score_paths(wrong)
    rows = scorer.score_paths([paths[0], wrong])
    with pytest.raises(TypeError, match=f"paths must be of .*, not {type(wrong).__name__}: "):
        list(rows)


@pytest.mark.parametrize("wrong", [None, 3, "a.jpg", ["a.jpg"], [Image.new("RGB", (9, 9))]])
def test_what_is_no_pixels_is_refused(model, wrong):
    with pytest.raises(TypeError, match=r"images must be RGB tensors .*, not of type"):
        Scorer(model).score_batch(wrong)


def test_a_single_image_is_no_batch(model):
    with pytest.raises(ValueError, match=r"or a batch of them, not \(3, 50, 60\)"):
        Scorer(model).score_batch(torch.rand(3, 50, 60))


def test_a_model_may_be_named(tiny_model_folder, model, paths, alone):
    assert_same(Scorer(str(tiny_model_folder), device="cpu").score_paths(paths[:2]), alone)
    with pytest.raises(TypeError, match=r"model must be a QualityModel, .*, not int"):
        Scorer(3)


@pytest.mark.parametrize("name", ["batch_size", "readers", "max_pixels", "max_memory"])
@pytest.mark.parametrize("number", [0, 2.5, float("nan"), "2"])
def test_what_is_no_whole_number_above_zero_is_refused(model, name, number):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number of at least 1, not {number!r}"
    ):
        Scorer(model, **{name: number})
    with pytest.raises(ValueError, match="raw must be one of preview, develop, not 'no'"):
        Scorer(model, raw="no")
