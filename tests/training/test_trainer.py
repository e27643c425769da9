"""Whole runs of a tiny network: they write files, they learn, and stops change nothing."""

import contextlib
import csv
import hashlib
import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from rich.console import Console
from timm.layers import DropPath
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import ImageError, InterruptedRunError, ModelError, RecipeError, TableError
from qfm_iqm.model.folder import load_model
from qfm_iqm.training import trainer as trainer_module
from qfm_iqm.training.data import UnlabeledImage
from qfm_iqm.training.pseudo_labels import write_pseudo_labels
from qfm_iqm.training.recipe_file import check_recipe
from qfm_iqm.training.reporting import Reporter
from qfm_iqm.training.state import load_state
from qfm_iqm.training.trainer import Trainer

KINDS = ("baseline", "qfm")
EPOCHS, STEPS = 3, 12  # 24 photos x 4 crops in batches of 8


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def finished(make_recipe, tmp_path_factory):
    """An undisturbed run of each kind."""
    torch.set_num_threads(1)
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("runs") / kind
        Trainer(make_recipe(method__kind=kind), folders[kind]).run()
    return folders


# A whole run


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_writes_its_folder(finished, make_recipe, kind):
    out = finished[kind]
    assert {path.name for path in out.iterdir()} == {
        "recipe.json", "split.txt", "log.jsonl", "state.safetensors", "best", "model",
        "results.csv", "test.csv",
    }  # fmt: skip
    for folder in ("best", "model"):
        assert {path.name for path in (out / folder).iterdir()} == {
            "model.safetensors",
            "card.json",
        }
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe == json.loads(make_recipe(method__kind=kind).model_dump_json())
    lines = log_of(out)
    steps = [line for line in lines if line["kind"] == "step"]
    assert [(line["epoch"], line["step"]) for line in steps] == [
        (epoch, step) for epoch in range(EPOCHS) for step in (10, 12)
    ]
    parts = {"loss", "regression"} | ({"qcc", "fallback", "unmatched"} if kind == "qfm" else set())
    assert all(parts <= line.keys() for line in steps)
    assert ("qcc" in steps[0]) == (kind == "qfm")
    # Linear warm-up over an epoch, then a cosine over the two that remain.
    assert steps[0]["lr"] == pytest.approx(3e-4 * 9 / 12)
    assert steps[1]["lr"] > steps[2]["lr"] > steps[-1]["lr"] > 0
    each = ["matches", "validation"] if kind == "qfm" else ["validation"]
    assert [line["kind"] for line in lines if line["kind"] != "step"] == each * 3 + ["test"]
    counts = [line for line in lines if line["kind"] == "matches"]
    assert [(line["epoch"], line["matched"]) for line in counts] == [
        (epoch, 96 * (epoch + 1)) for epoch in range(EPOCHS if kind == "qfm" else 0)
    ]
    assert all(line["unmatched"] <= line["matched"] >= line["fallbacks"] for line in counts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_that_comes_out_says_what_it_is(finished, kind):
    out = finished[kind]
    model = load_model(out / "model")
    card = model.card
    assert card.network.backbone == "test_vit"
    assert card.preprocessing.crop == 32
    assert card.training["data"] == "noisy scenes"
    assert card.training["images"] == {"train": 24, "validation": 8, "test": 8}
    assert card.training["samples"] == 96
    assert card.training["recipe"]["method"]["kind"] == kind
    assert "root" not in card.training["recipe"]["data"]
    split = (out / "split.txt").read_text()
    assert card.training["split_sha256"] == hashlib.sha256(split.encode()).hexdigest()
    assert card.weights_sha256 == hashlib.sha256(weights(out)).hexdigest()
    with (out / "results.csv").open(newline="") as file:
        figures = {(row["subset"], row["metric"]): row for row in csv.DictReader(file)}
    assert {row.metric for row in card.results} >= {"srcc", "plcc", "krcc", "rmse"}
    for row in card.results:
        measured = figures[row.subset, row.metric]
        assert float(measured["value"]) == row.value
        assert float(measured["ci_low"]) == row.ci_low
    # The label scale comes from the training split, and is saved with the weights.
    assert model.network.scale.mean.item() == pytest.approx(50, abs=3)
    assert model.network.scale.std.item() == pytest.approx(22, abs=3)


def test_baseline_and_qfm_are_different_trainings(finished):
    assert weights(finished["baseline"]) != weights(finished["qfm"])


@pytest.mark.parametrize("kind", [*KINDS, "subset"])
def test_results_agree_with_qfm_evaluate(finished, make_recipe, rated_set, tmp_path, kind):
    if kind == "subset":
        out = tmp_path / "run"
        recipe = make_recipe(data__group="subset", train__epochs=1, train__crops_per_image=1)
        parts = {row.subset for row in Trainer(recipe, out).run().rows}
        table = read_table(rated_set / "labelled.csv")
        tested = {f"test\t{name}": subset for name, subset in zip(
            table.names, table.column("subset"), strict=True
        )}  # fmt: skip
        lines = (out / "split.txt").read_text().splitlines()
        assert parts == {"whole", "subset_mean"} | {tested[x] for x in lines if x in tested}
    else:
        out = finished[kind]
    done = CliRunner().invoke(
        app,
        [
            "evaluate",
            str(rated_set / "labelled.csv"),
            "--model",
            str(out / "model"),
            "--split",
            "test",
        ]
        + (["--by", "subset"] if kind == "subset" else [])
        + ["--out", str(tmp_path / "again.csv")]
        + ["--per-image", str(tmp_path / "images.csv"), "--device", "cpu"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert (tmp_path / "again.csv").read_text() == (out / "results.csv").read_text()
    assert (tmp_path / "images.csv").read_text() == (out / "test.csv").read_text()


def test_test_scores_are_the_saved_models_own(finished, rated_set):
    model = load_model(finished["qfm"] / "model")
    with (finished["qfm"] / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    split = (finished["qfm"] / "split.txt").read_text().splitlines()
    assert {f"test\t{row['name']}" for row in rows} == {x for x in split if x.startswith("test")}
    for row in rows:
        score = model.score(rated_set / row["name"])
        assert float(row["score"]) == pytest.approx(score.value, abs=1e-3)


def test_half_precision_weights_are_tested_as_saved(make_recipe, tmp_path):
    recipe = make_recipe(train__epochs=1, train__crops_per_image=1)
    half = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"precision": "float16"})}
    )
    Trainer(half, tmp_path / "half").run()
    Trainer(recipe, tmp_path / "full").run()
    sizes = [len(weights(tmp_path / name)) for name in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    best, model = (load_model(tmp_path / "half" / name) for name in ("best", "model"))
    for a, b in zip(best.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, a.half().float())


def test_it_learns(make_recipe, tmp_path):
    """From random weights, in seconds: noise is seen in photos of scenes never trained on."""
    recipe = make_recipe(method__kind="qfm", train__epochs=5, train__crops_per_image=12)
    evaluation = Trainer(recipe, tmp_path / "run").run()
    validation = [line for line in log_of(tmp_path / "run") if line["kind"] == "validation"]
    assert max(line["whole/srcc"] for line in validation) > 0.6
    assert evaluation.value("whole", "srcc") > 0.6


# Mistakes


def test_a_rate_too_high_ends_with_a_clear_sentence(make_recipe, tmp_path):
    recipe = make_recipe(train__lr=1e30, train__crops_per_image=1)
    with pytest.raises(RecipeError, match=r"loss became infinite .* epoch 1, .* lower train\.lr"):
        Trainer(recipe, tmp_path / "run").run()
    assert not (tmp_path / "run" / "model").exists()


def test_a_collapsed_network_ends_with_a_clear_sentence(make_recipe, tmp_path, monkeypatch, capsys):
    """A network that predicts the same for every image."""
    real = trainer_module.build_model

    def build(*args):
        model = real(*args)
        torch.nn.init.zeros_(model.network.decoder.head.weight.requires_grad_(False))
        return model

    monkeypatch.setattr(trainer_module, "build_model", build)
    recipe = make_recipe(train__epochs=2, train__crops_per_image=1)
    console = Console(file=sys.stdout, width=200)
    run = Trainer(recipe, tmp_path / "run", reporter=Reporter(console))
    with pytest.raises(TableError, match=r"In no epoch did the scores differ .* lower train\.lr"):
        run.run()
    assert "epoch 2 cannot be selected" in capsys.readouterr().out
    assert not (tmp_path / "run" / "model").exists()


# Options


def test_a_frozen_backbone_stays_as_it_was(make_recipe, tmp_path):
    recipe = make_recipe(backbone__tune="none", train__epochs=1, train__crops_per_image=1)
    run = Trainer(recipe, tmp_path / "run")
    before = {k: v.clone() for k, v in run.model.network.state_dict().items()}
    run.run()
    for key, value in run.model.network.state_dict().items():
        fixed = key.startswith(("encoder.", "scale."))
        assert torch.equal(value, before[key]) == fixed, key


def test_the_gradient_is_clipped(make_recipe, tmp_path, monkeypatch):
    """With a clip near nothing, AdamW's first steps are the same size, but its state is tiny."""
    recipe = make_recipe(train__clip=1e-6, train__epochs=1, train__crops_per_image=1)
    run = Trainer(recipe, tmp_path / "run")
    run.run()
    squares = sum(s["exp_avg"].square().sum() for s in run.optimizer.state_dict()["state"].values())
    assert 0 < squares.sqrt().item() < 1e-6


def test_the_seed_decides_the_run(make_recipe, tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        recipe = make_recipe(train__seed=seed, train__epochs=1, train__crops_per_image=1)
        Trainer(recipe, tmp_path / str(number)).run()
        found.append(weights(tmp_path / str(number)))
    assert found[0] == found[1] != found[2]


def test_mixed_precision_trains_in_float32_weights(make_recipe, tmp_path, fresh_accelerate):
    recipe = make_recipe(
        method__kind="qfm", train__precision="bf16", train__epochs=1, train__crops_per_image=2
    )
    run = Trainer(recipe, tmp_path / "run")
    run.run()
    assert {p.dtype for p in run.model.network.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in run.model.network.parameters())


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps its precision for the whole process: reset before and after."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_training_on_a_teachers_scores_too(finished, make_recipe, rated_set, tmp_path):
    teacher = load_model(finished["baseline"] / "model")
    recipe = make_recipe(train__epochs=1, train__batch_size=48)
    plain = Trainer(recipe, tmp_path / "plain")
    table = plain.data.train
    images = list(zip(table.names, table.contents, table.paths(rated_set), strict=True))
    taught = tmp_path / "taught.csv"
    write_pseudo_labels(teacher, images, taught, lambda done, _: done)
    run = Trainer(recipe, tmp_path / "student", pseudo_labels=[taught])
    run.run()
    crops = 9  # cover each image
    assert len(run.data.samples) == len(plain.data.samples) + 24 * crops
    card = load_model(tmp_path / "student" / "model").card
    assert card.training["samples"] == len(run.data.samples)


# Unlabeled images (DLE)


@pytest.fixture(scope="session")
def unlabeled(unlabeled_folder):
    return [
        UnlabeledImage(path, path.name, 20.0 + 3 * i)
        for i, path in enumerate(sorted(unlabeled_folder.glob("*.jpg")))
    ]


@pytest.fixture
def expanding(make_recipe):
    """A recipe of two epochs of six steps, with regression on pseudo-labels."""
    return lambda **changes: make_recipe(
        **{"method__w_pl": 0.5, "train__epochs": 2, "train__crops_per_image": 2} | changes
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unlabeled_crops_have_terms_of_their_own(expanding, unlabeled, tmp_path, kind):
    recipe = expanding(method__kind=kind)
    plain, run = (
        Trainer(recipe, tmp_path / name, unlabeled=images)
        for name, images in (("plain", ()), ("run", unlabeled))
    )
    plain.run()
    run.run()
    steps, before = (
        [line for line in log_of(out) if line["kind"] == "step"]
        for out in (tmp_path / "run", tmp_path / "plain")
    )
    assert [(line["epoch"], line["step"]) for line in steps] == [(0, 6), (1, 6)]
    assert steps[0].keys() - before[0].keys() == {"pseudo"} | (
        {"qcc_unlabeled"} if kind == "qfm" else set()
    )
    assert weights(tmp_path / "run") != weights(tmp_path / "plain")
    card = load_model(tmp_path / "run" / "model").card
    assert (card.training["samples"], card.training["unlabeled"]) == (48, 19)


def test_a_share_of_the_batch_is_unlabeled(expanding, unlabeled, tmp_path):
    for share, count in ((0.5, 4), (1.0, 8), (0.01, 1)):
        run = Trainer(expanding(distillation__share=share), tmp_path / "run", unlabeled=unlabeled)
        assert [len(batch) for batch in run.order] == [8 + count] * 6


@pytest.mark.parametrize(
    "options",
    [
        {"method__kind": "baseline"},
        {
            "method__kind": "qfm",
            "method__noise_from": "unlabeled",
            "method__matching": "gaussian",
            "distillation__unlabeled": "labelled.csv",
        },
        {
            "method__kind": "qfm",
            "distillation__unlabeled": "labelled.csv",
            "distillation__per_step": True,
        },
    ],
)
def test_a_stop_leaves_no_trace_with_unlabeled_images(
    expanding, unlabeled, tmp_path, build_model, options
):
    recipe = expanding(method__top_k=3, **options)

    def trainer(name, resume=False):
        teacher = build_model(crop=32, seed=3).network
        given = [teacher] if recipe.distillation.per_step else []
        return Trainer(recipe, tmp_path / name, resume=resume, unlabeled=unlabeled, teachers=given)

    trainer("whole").run()
    for stop, resume in (((0, 4), False), ((1, 1), True)):
        run = trainer("stopped", resume)
        stop_at(run, *stop)
        with pytest.raises(InterruptedRunError):
            run.run()
    trainer("stopped", resume=True).run()
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_a_per_step_teacher_scores_the_crops_in_place_of_the_images(
    expanding, unlabeled, tmp_path, build_model
):
    found = {}
    for name, seed, shift in (("a", 3, 0.0), ("b", 3, 40.0), ("c", 4, 0.0), ("d", None, 0.0)):
        images = [UnlabeledImage(u.path, u.content, u.score + shift) for u in unlabeled]
        teacher = None if seed is None else build_model(crop=32, seed=seed).network
        before = teacher and {k: v.clone() for k, v in teacher.state_dict().items()}
        recipe = expanding(train__epochs=1)
        given = [] if teacher is None else [teacher]
        run = Trainer(recipe, tmp_path / name, unlabeled=images, teachers=given)
        run.run()
        found[name] = weights(tmp_path / name)
        if teacher is not None:
            assert not teacher.training
            assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
            trained = {p for group in run.optimizer.param_groups for p in group["params"]}
            assert not trained & set(teacher.parameters())
    assert found["a"] == found["b"]
    assert len(set(found.values())) == 3


def test_smaller_crops_are_learned_from_and_whole_ones_scored(make_recipe, tmp_path):
    changes = {
        "backbone__name": "mobilenetv4_conv_small",
        "backbone__weights": "random",
        "network__crop": 64,
        "train__crop": 32,
        "train__epochs": 1,
    }
    run = Trainer(make_recipe(**changes), tmp_path / "run")
    sides = {tuple(batch.crop.shape[-2:]) for batch in run.loader}
    assert sides == {(32, 32)}
    run.run()
    assert load_model(tmp_path / "run" / "model").card.preprocessing.crop == 64
    recipe = make_recipe(
        backbone__name="vit_tiny_patch16_224", backbone__weights="random", train__crop=16
    )
    with pytest.raises(RecipeError, match="takes only crops of 32 pixels: leave train"):
        Trainer(recipe, tmp_path / "refused")


# The memory's size


def test_the_memorys_size_is_said_at_the_start(make_recipe, tmp_path, capsys):
    reporter = Reporter(Console(file=sys.stdout, width=200))
    for kind, entries in (("qfm", 200_000), ("baseline", 200_000)):
        recipe = make_recipe(
            method__kind=kind,
            method__memory=entries,
            train__epochs=1,
            train__crops_per_image=1,
        )
        Trainer(recipe, tmp_path / kind, reporter=reporter).run()
        said = capsys.readouterr().out
        sentence = "The memory of 200000 entries takes 124.4 MiB when full.\n"
        assert said.startswith(sentence) == (kind == "qfm")
        assert ("memory" in said) == (kind == "qfm")


def test_a_memory_that_does_not_fit_is_refused_before_training(make_recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"method\.memory = 1000000000000 needs 607222\.3 GiB"):
        Trainer(make_recipe(method__kind="qfm", method__memory=10**12), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Images that cannot be read


@pytest.mark.parametrize(
    ("part", "workers"), [("train", 0), ("train", 1), ("validation", 0), ("test", 0)]
)
def test_an_image_that_cannot_be_read_is_one_clear_sentence(
    make_recipe, rated_set, tmp_path, part, workers
):
    recipe = make_recipe(train__epochs=2, train__crops_per_image=1, train__workers=workers)
    probe = Trainer(recipe, tmp_path / "probe")
    name = probe.data.split.names(part)[0]
    root = tmp_path / "photos"
    root.mkdir()
    for path in rated_set.iterdir():
        content = path.read_bytes()
        (root / path.name).write_bytes(content[:300] if path.name == name else content)
    recipe = make_recipe(
        data__root=str(root),
        train__epochs=2,
        train__crops_per_image=1,
        train__workers=workers,
    )
    with pytest.raises(ImageError) as caught:
        Trainer(recipe, tmp_path / "run").run()
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    assert "Traceback" not in message


def test_a_mended_image_lets_the_run_go_on(finished, make_recipe, rated_set, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for path in rated_set.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    recipe = make_recipe(data__root=str(root))
    run = Trainer(recipe, tmp_path / "run")
    spoiled = root / run.data.validation.names[-1]
    content = spoiled.read_bytes()
    spoiled.write_bytes(b"")
    with pytest.raises(ImageError):
        run.run()
    spoiled.write_bytes(content)
    Trainer(recipe, tmp_path / "run", resume=True).run()
    assert weights(tmp_path / "run") == weights(finished["baseline"])


# Stop and resume


def stop_at(trainer, epoch, step):
    """Asks the trainer to stop, as a signal would, after that step."""

    def look(loss, crops):
        if (trainer.epoch, trainer.step) == (epoch, step):
            trainer.stopping.asked = True

    trainer.reporter.step = look


@pytest.mark.parametrize("pairs", [0, 2])
def test_whole_photos_and_averaged_weights_resume_to_the_same_bytes(make_recipe, tmp_path, pairs):
    cells = tmp_path / "cells.csv"
    lines = ["name,level,parameter,dmos_mean", "jpeg,1,40,4.2", "jpeg,2,8,1.9"]
    cells.write_text("\n".join(lines))
    recipe = make_recipe(
        method__kind="qfm",
        train__epochs=2,
        train__ema=0.9,
        train__fidelity=1.0,
        train__backbone_lr=1e-4,
        train__layer_decay=0.5,
        data__group="subset",
        network__shorter_side=32,
        augment__cells=str(cells),
        augment__good=50.0,
        augment__pairs=pairs,
        augment__smaller=0.2,
        augment__framed=0.2,
        augment__zoom=0.7,
    )
    whole = Trainer(recipe, tmp_path / "whole")
    whole.train()
    kept = load_model(tmp_path / "whole" / "best").network.state_dict()
    last = whole.model.network.state_dict()
    assert any(not torch.equal(kept[key], last[key]) for key in kept)  # the average is kept
    logged = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    steps = [line for line in logged if line["kind"] == "step"]
    assert all("fidelity" in line and ("pairs" in line) == bool(pairs) for line in steps)
    first = Trainer(recipe, tmp_path / "parted")
    stop_at(first, 1, 2)
    with pytest.raises(InterruptedRunError):
        first.train()
    Trainer(recipe, tmp_path / "parted", resume=True).train()
    files = [tmp_path / run / "best" / "model.safetensors" for run in ("whole", "parted")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(("kind", "step"), [("baseline", 1), ("qfm", STEPS - 1), ("qfm", STEPS)])
def test_a_stop_at_any_step_leaves_no_trace(finished, make_recipe, tmp_path, kind, step):
    recipe, out = make_recipe(method__kind=kind), tmp_path / "run"
    first = Trainer(recipe, out)
    stop_at(first, 1, step)
    with pytest.raises(InterruptedRunError):
        first.run()
    state = load_state(out / "state.safetensors")
    assert (state["epoch"], state["step"]) == (1, step)
    Trainer(recipe, out, resume=True).run()
    for name in ("model/model.safetensors", "test.csv", "results.csv"):
        assert (out / name).read_bytes() == (finished[kind] / name).read_bytes()


def test_many_stops_leave_no_trace(finished, make_recipe, tmp_path):
    out, resume = tmp_path / "run", False
    for stop in [(0, 5), (0, 11), (2, 2), (2, 3)]:
        run = Trainer(make_recipe(method__kind="qfm"), out, resume=resume)
        stop_at(run, *stop)
        with pytest.raises(InterruptedRunError):
            run.run()
        resume = True
    Trainer(make_recipe(method__kind="qfm"), out, resume=True).run()
    assert weights(out) == weights(finished["qfm"])


def test_a_stop_in_scoring_leaves_no_trace(finished, make_recipe, tmp_path):
    for moment, scorings in (("validation", 2), ("test", 4)):
        out = tmp_path / moment
        run = Trainer(make_recipe(), out)
        calls = []

        def scoring(items, total, run=run, calls=calls, scorings=scorings):
            calls.append(total)
            for number, item in enumerate(items):
                run.stopping.asked = len(calls) == scorings and number == 3
                yield item

        run.reporter.scoring = scoring
        with pytest.raises(InterruptedRunError):
            run.run()
        Trainer(make_recipe(), out, resume=True).run()
        assert weights(out) == weights(finished["baseline"])


def test_layers_that_draw_go_on_identically(make_recipe, tmp_path, monkeypatch):
    """Stochastic depth, which several of timm's backbones have by default."""
    real = trainer_module.build_model

    def build(*args):
        model = real(*args)
        for block in model.network.encoder.backbone.blocks:
            block.drop_path2 = DropPath(0.5)
        return model

    monkeypatch.setattr(trainer_module, "build_model", build)
    recipe = make_recipe(train__epochs=2, train__crops_per_image=2, train__workers=1)
    Trainer(recipe, tmp_path / "whole").run()
    first = Trainer(recipe, tmp_path / "stopped")
    stop_at(first, 1, 3)
    with pytest.raises(InterruptedRunError):
        first.run()
    torch.manual_seed(1234)
    second = Trainer(recipe, tmp_path / "stopped", resume=True)
    second.run()
    states = [load_state(tmp_path / name / "state.safetensors") for name in ("whole", "stopped")]
    assert torch.equal(states[0]["random"]["cpu"], states[1]["random"]["cpu"])
    for key, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][key])


@pytest.mark.parametrize("stop", [True, False])
def test_however_it_ends_the_terminal_is_left_in_order(make_recipe, tmp_path, stop):
    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, force_terminal=True))
    recipe = make_recipe(train__epochs=1, train__crops_per_image=1)
    run = Trainer(recipe, tmp_path / "run", reporter=reporter)
    if stop:
        stop_at(run, 0, 1)
        with pytest.raises(InterruptedRunError):
            run.run()
    else:
        run.run()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"  # the cursor
    assert screen.getvalue().rfind(shown) > screen.getvalue().rfind(hidden) > -1


def test_an_existing_run_is_not_overwritten(finished, make_recipe):
    before = weights(finished["baseline"])
    with pytest.raises(RecipeError, match="already holds a run: continue with --resume"):
        Trainer(make_recipe(), finished["baseline"])
    assert weights(finished["baseline"]) == before


@pytest.mark.parametrize(
    "change",
    [
        {"train__lr": 2e-3},
        {"train__epochs": 4},
        {"method__tau": 0.3},
        {"data__split_seed": 1},
        {"backbone__tune": "none"},
    ],
)
def test_a_changed_recipe_is_not_resumed(finished, make_recipe, change):
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        Trainer(make_recipe(**change), finished["baseline"], resume=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_it_learns_stops_and_goes_on(make_recipe, tmp_path, kind):
    recipe = make_recipe(
        method__kind=kind, train__device="auto", train__precision="bf16", train__workers=2,
        train__cache=True,
    )  # fmt: skip
    AcceleratorState._reset_state(True)  # other runs of this process use the CPU
    stopped = Trainer(recipe, tmp_path / "run")
    assert {part.device.type for part in stopped.objective.parameters()} == {"cuda"}
    stopped.reporter.step = lambda *_: setattr(stopped.stopping, "asked", True)
    with pytest.raises(InterruptedRunError):
        stopped.run()
    evaluation = Trainer(recipe, tmp_path / "run", resume=True).run()
    srcc = {row.subset: row.value for row in evaluation.rows if row.metric == "srcc"}
    assert srcc["whole"] > 0.6
    assert len([line for line in log_of(tmp_path / "run") if line["kind"] == "validation"]) == 3
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize("change", [{"train__workers": 1}, {"train__cache": False}])
def test_how_images_are_read_may_change_on_resume(finished, make_recipe, tmp_path, change):
    out = tmp_path / "run"
    run = Trainer(make_recipe(), out)
    stop_at(run, 2, 3)
    with pytest.raises(InterruptedRunError):
        run.run()
    Trainer(make_recipe(**change), out, resume=True).run()
    assert weights(out) == weights(finished["baseline"])


def test_resume_begins_where_there_is_no_run(make_recipe, tmp_path):
    recipe = make_recipe(train__epochs=1, train__crops_per_image=1)
    Trainer(recipe, tmp_path / "new", resume=True).run()
    assert (tmp_path / "new" / "model" / "card.json").is_file()


def test_a_damaged_state_is_refused(make_recipe, tmp_path):
    recipe, out = make_recipe(train__epochs=1, train__crops_per_image=1), tmp_path / "run"
    Trainer(recipe, out).run()
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ModelError, match="training state"):
        Trainer(recipe, out, resume=True).run()


def test_a_file_is_no_folder_for_a_run(make_recipe, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="it is a file"):
        Trainer(make_recipe(), tmp_path / "file")


def test_signal_handlers_are_put_back(finished, make_recipe, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    Trainer(make_recipe(train__epochs=1, train__crops_per_image=1), tmp_path / "run").run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# Real signals to the real command


def read_pipe(pipe, process, seconds=240):
    """What a process next writes into a named pipe; fails if it ends or hangs instead.

    It is read to its end: who closes a pipe that is written to breaks it.
    """
    ends = time.monotonic() + seconds
    reader, text = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                if more := os.read(reader, 1 << 16):
                    text += more
                elif text:
                    return text.decode()
            assert process.lives(), process.wait()
            assert time.monotonic() < ends, "the run wrote nothing"
            time.sleep(0.002)
    finally:
        os.close(reader)


def test_killed_interrupted_and_resumed_it_reaches_the_same_bytes(
    finished, recipe_content, write_recipe, tmp_path, forked
):
    content = recipe_content(method__kind="qfm", train__workers=1)
    content["model"] = {"name": "model"}  # the name is part of a recipe
    recipe, out = write_recipe(content, tmp_path / "recipe.toml"), tmp_path / "run"

    # From here on the log is a pipe: a run waits at each line until it is read, so that signals
    # arrive between two given steps, however fast or slow the machine is.
    first = Trainer(check_recipe(content), out)
    stop_at(first, 0, 3)
    with pytest.raises(InterruptedRunError):
        first.run()
    log = out / "log.jsonl"
    log.unlink(missing_ok=True)
    os.mkfifo(log)

    # Killed after the second epoch's tenth step: the state before it counts.
    command = ("train", recipe, "--out", out, "--resume")
    run = forked.start(*command)
    while '"epoch": 1' not in read_pipe(log, run):
        pass
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    state = load_state(out / "state.safetensors")
    assert (state["epoch"], state["step"]) == (1, 0)

    # Interrupted at the same place, together with its reading process.
    run = forked.start(*command)
    assert '"epoch": 1, "step": 10' in read_pipe(log, run)
    os.killpg(run.pid, signal.SIGTERM)
    drain = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    code, _, said = run.wait()
    os.close(drain)
    assert code == 130, said
    assert "Interrupted: continue with the same command and --resume" in said
    assert "Traceback" not in said
    state = load_state(out / "state.safetensors")
    assert state["epoch"] == 1
    assert state["step"] in (10, 11, 12)
    log.unlink()

    code, printed, said = forked.run(*command, "--results", tmp_path / "results.csv")
    assert code == 0, said
    assert "srcc" in printed
    assert weights(out) == weights(finished["qfm"])
    assert (tmp_path / "results.csv").read_bytes() == (finished["qfm"] / "results.csv").read_bytes()


def test_photos_of_the_set_are_what_they_are_said_to_be(rated_set):
    table = read_table(rated_set / "labelled.csv")
    assert len(table) == 40
    assert len(set(table.contents)) == 10
    assert all(Image.open(path).size == (96, 96) for path in Path(rated_set).glob("*.jpg"))
