"""Diagnosis of a tiny model against a slow, plain computation, crop by crop."""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ImageError, ModelError, QFMError, TableError
from qfm_iqm.evaluation.diagnosis import DEGRADATIONS, diagnose, sample
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess_torch import distort_tensor, resize_and_pad
from qfm_iqm.metrics.aliasing import aliasing
from qfm_iqm.model.card import LabelUnits

ALPHA, TAU, SEED = 0.5, 0.6, 3
OPTIONS = {"neighbors": 3, "alpha": ALPHA, "tau": TAU, "seed": SEED, "backbone": False}


@pytest.fixture
def model(build_model):
    return build_model(seed=1)


@pytest.fixture(scope="module")
def table(photo_folder):
    names = tuple(sorted(path.name for path in photo_folder.iterdir()))
    return RatedTable(
        names=names,
        mos=np.random.default_rng(5).normal(3, 1, len(names)),
        contents=tuple(f"scene {number // 2}" for number in range(len(names))),
    )


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


@torch.inference_mode()
def reference(model, table, root):
    """S_n, fallbacks, mean changes {(kind, level): change}, mean drops and descriptors."""
    network, size = model.network, model.card.preprocessing.crop
    tokens, descriptors = [], []
    changes = {(k, n + 1): [] for k in DEGRADATIONS for n in range(len(LEVELS[k]))}
    for name in table.names:
        image = resize_and_pad(read_image(root / name), model.card.preprocessing)
        seen = [network.encode(crop[None])[0, 0].double() for crop in model.crops(image)]
        descriptors.append(sum(seen) / len(seen))
        top, left = (image.shape[1] - size) // 2, (image.shape[2] - size) // 2
        crop = image[:, top : top + size, left : left + size]
        own = network.encode(crop[None])[0]
        tokens.append(own.bfloat16().float())  # as in a memory bank
        noise = zlib.crc32(f"{SEED}:{name}".encode())
        for (kind, level), found in changes.items():
            degraded = distort_tensor(crop, kind, level, noise)
            answers = [network(x[None]).item() for x in (crop, degraded)]
            found.append((answers[0] - answers[1]) / network.scale.std.item())

    labels = (table.mos - table.mos.mean()) / table.mos.std()
    answered, fallbacks = [], 0
    for i in range(len(table)):
        others = [j for j in range(len(table)) if table.contents[j] != table.contents[i]]
        near = [j for j in others if abs(labels[i] - labels[j]) <= TAU]
        if near:
            match = min(near, key=lambda j: cosine(tokens[i][0], tokens[j][0]))
        else:
            match = min(others, key=lambda j: abs(labels[i] - labels[j]))
            fallbacks += 1
        perturbed = tokens[i] + ALPHA * tokens[match]
        answer = network.decoder(perturbed[None]) - network.decoder(tokens[i][None])
        answered.append(abs(answer.item()))
    return (
        sum(answered) / len(answered),
        fallbacks,
        {at: sum(map(abs, found)) / len(found) for at, found in changes.items()},
        {at: sum(found) / len(found) for at, found in changes.items()},
        torch.stack(descriptors).numpy(),
    )


def test_every_figure_is_that_of_a_slow_loop(model, table, photo_folder):
    found = diagnose(model, table, photo_folder, **OPTIONS)
    noise, fallbacks, changes, drops, descriptors = reference(model, table, photo_folder)
    assert found.noise_sensitivity == pytest.approx(noise, abs=1e-5)
    assert found.noise_sensitivity > 1e-3
    assert found.fallbacks == fallbacks
    measured = {(one.distortion, one.level): one for one in found.responses}
    assert {at: one.change for at, one in measured.items()} == pytest.approx(changes, abs=1e-5)
    assert {at: one.drop for at, one in measured.items()} == pytest.approx(drops, abs=1e-5)
    assert all(one.strength == LEVELS[kind][n - 1] for (kind, n), one in measured.items())
    assert found.quality_sensitivity == pytest.approx(sum(changes.values()) / 15, abs=1e-5)
    assert found.selectivity == pytest.approx(sum(changes.values()) / 15 / noise, rel=1e-3)
    expected = aliasing(descriptors, table.mos, table.contents, neighbors=3, examples=16)
    assert found.trained.rate == expected.rate
    assert found.trained.random_rate == expected.random_rate
    assert [(p.first, p.second) for p in found.trained.pairs] == [
        (p.first, p.second) for p in expected.pairs
    ]
    assert (found.names, found.mos) == (table.names, tuple(table.mos))


def figures(found):
    numbers = [found.noise_sensitivity, found.trained.rate, found.fallbacks]
    return [*numbers, *(one.change for one in found.responses)]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_batch_size_changes_nothing(model, table, photo_folder, batch_size, monkeypatch):
    one = diagnose(model, table, photo_folder, **OPTIONS)
    monkeypatch.setattr("qfm_iqm.evaluation.diagnosis.BATCH", batch_size)
    other = diagnose(model, table, photo_folder, **OPTIONS)
    assert figures(one) == pytest.approx(figures(other), abs=1e-5)


def test_the_same_seed_gives_the_same_and_row_order_does_not_matter(model, table, photo_folder):
    one = diagnose(model, table, photo_folder, **OPTIONS)
    assert diagnose(model, table, photo_folder, **OPTIONS) == one
    turned = table.select(list(reversed(range(len(table)))))
    other = diagnose(model, turned, photo_folder, **OPTIONS)
    assert figures(one) == pytest.approx(figures(other), abs=1e-5)
    noisy = diagnose(model, table, photo_folder, **(OPTIONS | {"seed": 4}))
    assert noisy.by_distortion["white noise"] != one.by_distortion["white noise"]
    assert noisy.by_distortion["gaussian blur"] == one.by_distortion["gaussian blur"]


def test_a_drop_is_a_loss_of_quality_whichever_way_labels_point(model, table, photo_folder):
    plain = diagnose(model, table, photo_folder, **OPTIONS)
    label = LabelUnits(name="DMOS", higher_is_better=False)
    model.card = model.card.model_copy(update={"label": label})
    turned = diagnose(model, table, photo_folder, **OPTIONS)
    assert [one.drop for one in turned.responses] == [-one.drop for one in plain.responses]
    assert [one.change for one in turned.responses] == [one.change for one in plain.responses]


def test_a_network_that_reacts_to_nothing_has_no_selectivity(model, table, photo_folder):
    torch.nn.init.zeros_(model.network.decoder.head.weight)
    found = diagnose(model, table, photo_folder, **OPTIONS)
    assert found.noise_sensitivity == found.quality_sensitivity == 0
    assert found.selectivity is None
    assert "predictions never change" in found.selectivity_missing


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise ConnectionError("no hub here")

    monkeypatch.setattr("qfm_iqm.model.weights.load_state_dict_from_hf", refuse)
    monkeypatch.setenv("QFM_BACKBONE_DIR", str(tmp_path))
    return tmp_path


def test_the_public_backbone_is_measured_beside(build_model, table, photo_folder, no_hub):
    torch.manual_seed(9)
    state = timm.create_model("test_vit", img_size=48).state_dict()
    save_file(state, no_hub / "test_vit.safetensors")
    # The projection is the network's own, not the backbone's.
    found = diagnose(build_model(width=32), table, photo_folder, **(OPTIONS | {"backbone": True}))
    assert found.backbone_missing == ""
    plain = build_model(backbone_state=state)
    expected = diagnose(plain, table, photo_folder, **OPTIONS).trained
    assert found.backbone == expected
    assert found.backbone != found.trained


def test_a_backbone_that_cannot_be_had_is_left_out_with_a_sentence(
    model, table, photo_folder, no_hub
):
    found = diagnose(model, table, photo_folder, **(OPTIONS | {"backbone": True}))
    assert found.backbone is None
    assert "no hub here" in found.backbone_missing
    assert replace(found, backbone_missing="It was not requested.") == diagnose(
        model, table, photo_folder, **OPTIONS
    )


def test_progress_sees_every_file(model, table, photo_folder):
    seen = []

    def progress(paths, total):
        for path in paths:
            seen.append((path.name, total))
            yield path

    diagnose(model, table, photo_folder, progress=progress, **OPTIONS)
    assert seen == [(name, 12) for name in table.names]


def test_a_sample_is_drawn_by_the_seed_from_names_alone(table):
    drawn = sample(table, 5, seed=1)
    assert len(drawn) == 5
    assert set(drawn.names) != set(sample(table, 5, seed=2).names)
    turned = table.select(list(reversed(range(len(table)))))
    assert set(sample(turned, 5, seed=1).names) == set(drawn.names)
    assert sample(table, 12) is table


@pytest.mark.parametrize(
    ("change", "options", "error", "sentence"),
    [
        (lambda t: RatedTable(names=t.names), {}, TableError, "has no labels to diagnose"),
        (lambda t: RatedTable(t.names, np.full(12, 0.1)), {}, TableError, "12 labels are equal"),
        (lambda t: t.select(range(4)), {}, TableError, "has only 2"),
        (lambda t: t, {"neighbors": 11}, TableError, "has only 10"),
        (lambda t: RatedTable(tuple("abcd"), np.arange(4.0)), {}, TableError,
         "match no file"),
        (lambda t: t, {"alpha": math.nan}, QFMError, "alpha must be a number of at least 0"),
        (lambda t: t, {"alpha": -1}, QFMError, "alpha must be"),
        (lambda t: t, {"tau": math.inf}, QFMError, "tau must be"),
    ],
)  # fmt: skip
def test_what_cannot_be_diagnosed_is_refused_before_any_image_is_read(
    model, table, photo_folder, change, options, error, sentence
):
    def progress(paths, total):
        raise AssertionError("an image was asked for")

    with pytest.raises(error, match=sentence):
        diagnose(model, change(table), photo_folder, progress=progress, **(OPTIONS | options))


def test_an_unreadable_image_and_a_broken_model_are_refused(model, table, tmp_path, photo_folder):
    for name in table.names:
        (tmp_path / name).write_text("no image")
    with pytest.raises(ImageError, match="photo_00"):
        diagnose(model, table, tmp_path, **OPTIONS)
    torch.nn.init.constant_(model.network.decoder.head.weight, math.nan)
    with pytest.raises(ModelError, match=r"predictions for .*photo_00\.jpg are not finite"):
        diagnose(model, table, photo_folder, **OPTIONS)
