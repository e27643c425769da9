import json
import zlib

import numpy as np
import pytest
import torch

from qfm_iqm.errors import RecipeError
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.metrics.correlation import srcc
from qfm_iqm.training.literature import best_test_epoch, habits, random_crops
from qfm_iqm.training.trainer import Trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_recipe):
    """A short run by the literature's protocol, and its folder."""
    out = tmp_path_factory.mktemp("literature") / "run"
    recipe = make_recipe(
        train__epochs=3, train__crops_per_image=2, data__group="subset", train__schedule="step"
    ).model_copy(update={"protocol": "test-selected"})
    return Trainer(recipe, out), out


def entries(out, kind):
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["kind"] == kind]


def test_habits_are_keys_of_recipes_and_squeeze_two_datasets(make_recipe):
    assert habits(None) == {"protocol": "test-selected", "train.warmup_prefix": False}
    for name in ("koniq10k", "spaq"):
        assert habits(name)["network.squeeze"] == [512, 384]
        assert habits(name)["network.shorter_side"] is None
    assert "network.squeeze" not in habits("livec")


def test_test_crops_are_ten_of_the_image_seeded_by_run_epoch_and_name(photo_folder):
    preprocessing = Preprocessing(crop=32)
    path = photo_folder / "photo_05.png"

    def crops_of(path=path, **options):
        told = {"seed": 3, "epoch": 2, "flip": True, "features": None} | options
        return random_crops(preprocessing, **told)(str(path))[1]

    crops = crops_of()
    assert [crop.shape for crop in crops] == [(3, 32, 32)] * 10
    again = crops_of()
    assert all(torch.equal(a, b) for a, b in zip(crops, again, strict=True))
    for other in (crops_of(seed=4), crops_of(epoch=3), crops_of(photo_folder / "photo_06.png")):
        assert not all(torch.equal(a, b) for a, b in zip(crops, other, strict=True))
    # By hand: positions and mirroring from one random stream.
    image = resize_and_pad(read_image(path), preprocessing)
    draw = np.random.default_rng([3, 2, zlib.crc32(path.name.encode())])
    for crop in crops:
        top = int(draw.integers(image.shape[1] - 31))
        left = int(draw.integers(image.shape[2] - 31))
        expected = image[:, top : top + 32, left : left + 32]
        assert torch.equal(crop, expected.flip(-1) if draw.random() < 0.5 else expected)


def test_a_run_logs_the_test_part_after_every_epoch_and_still_tests_once(run):
    trainer, out = run
    evaluation = trainer.run()
    logged = entries(out, "test-selected")
    assert [entry["epoch"] for entry in logged] == [0, 1, 2]
    assert len(entries(out, "test")) == 1
    # The figures come from scores of random crops.
    last = trainer.model.eval()
    source = random_crops(
        last.card.preprocessing, seed=trainer.recipe.train.seed, epoch=2, flip=True, features=None
    )
    test = trainer.data.test
    scores = [
        last.network(torch.stack(source(str(path))[1])).mean().item()
        for path in test.paths(trainer.data.root)
    ]
    assert logged[-1]["whole/srcc"] == pytest.approx(srcc(scores, test.mos), abs=1e-6)
    epoch, figures = best_test_epoch(out / "log.jsonl")
    assert figures["whole/srcc"] == max(entry["whole/srcc"] for entry in logged)
    assert logged[epoch]["whole/srcc"] == figures["whole/srcc"]
    assert {"whole/plcc", "even/srcc", "subset_mean/srcc"} <= figures.keys()
    # The validation-selected figure uses the epoch chosen by validation, with covering crops.
    assert trainer.selection.best["epoch"] == max(
        range(3), key=lambda e: entries(out, "validation")[e]["whole/srcc"]
    )
    assert evaluation.value("whole", "srcc") == entries(out, "test")[0]["whole/srcc"]


def test_the_protocol_does_not_change_what_is_trained(run, tmp_path):
    trainer, out = run
    if not (out / "model").is_dir():
        trainer.run()
    plain = Trainer(
        trainer.recipe.model_copy(update={"protocol": "validation-selected"}), tmp_path / "run"
    )
    plain.run()
    assert entries(tmp_path / "run", "test-selected") == []
    steps = [
        [(entry["epoch"], entry["loss"]) for entry in entries(folder, "step")]
        for folder in (out, tmp_path / "run")
    ]
    assert steps[0] == steps[1]


def test_without_a_validation_part_more_is_learned_from_and_the_last_epoch_kept(run, tmp_path):
    recipe = run[0].recipe
    data = recipe.data.model_copy(update={"validation": 0.0})
    out = tmp_path / "run"
    trainer = Trainer(recipe.model_copy(update={"data": data}), out)
    assert trainer.data.validation is None
    whole = len(trainer.data.split.train) + len(trainer.data.split.test)
    assert (whole, trainer.data.split.validation) == (40, ())
    assert trainer.data.split.test == run[0].data.split.test  # the same images are tested
    trainer.run()
    assert [entry["epoch"] for entry in entries(out, "test-selected")] == [0, 1, 2]
    assert trainer.selection.best == {"epoch": 2, "srcc": None}
    assert entries(out, "validation") == [{"kind": "validation", "epoch": n} for n in range(3)]
    with pytest.raises(RecipeError, match="no validation split to evaluate on"):
        trainer.selection.finish("validation")


def test_an_epoch_logged_twice_counts_as_the_last_time(tmp_path):
    log = tmp_path / "log.jsonl"
    lines = [
        {"kind": "step", "epoch": 0, "loss": 1.0},
        {"kind": "test-selected", "epoch": 0, "whole/srcc": 0.9, "whole/plcc": 0.1},
        {"kind": "test-selected", "epoch": 1, "whole/srcc": 0.6, "whole/plcc": None},
        {"kind": "test-selected", "epoch": 0, "whole/srcc": 0.5, "whole/plcc": 0.2},
    ]
    log.write_text("\n".join(map(json.dumps, lines)))
    assert best_test_epoch(log) == (1, {"whole/srcc": 0.6})
    log.write_text(json.dumps(lines[0]))
    assert best_test_epoch(log) is None
