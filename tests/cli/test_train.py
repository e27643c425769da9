"""`qfm train`: from a rated set to a model folder and figures; mistakes give one sentence."""

import csv
import json
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.errors import QFMError, RecipeError
from qfm_iqm.model.folder import load_model


@pytest.fixture
def recipe(photo_folder, tmp_path):
    """Twelve photos, labeled by their number: five to test, five to select on, two to train on."""
    names = sorted(path.name for path in photo_folder.iterdir())
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "mos"), *((n, i) for i, n in enumerate(names))])
    path = tmp_path / "photos.toml"
    path.write_text(
        f"""
        [data]
        root = {json.dumps(str(photo_folder))}
        labels = {json.dumps(str(tmp_path / "labels.csv"))}
        test = 0.4
        validation = 0.4
        [backbone]
        name = "test_vit"
        weights = "random"
        [network]
        crop = 48
        [train]
        epochs = 1
        batch_size = 2
        device = "cpu"
        """
    )
    assert len(tomllib.loads(path.read_text())) == 4
    return path


def qfm(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_a_run_prints_its_figures_and_where_the_model_is(recipe, tmp_path):
    out, figures = tmp_path / "a run [bold] with [/x] in a long name", tmp_path / "figures.csv"
    done = qfm(recipe, "--out", out, "--results", figures, "--set", "train.lr=1e-4")
    assert done.exit_code == 0, done.output
    assert "srcc" in done.stdout
    assert "whole" in done.stdout
    assert "2 crops an epoch, 5 validation and 5 test images" in done.stderr
    assert "left out" not in done.stderr
    assert "epoch 1: loss" in done.stderr
    assert f"Best epoch by validation: 1. Model: {out / 'model'}\n" in done.stderr
    assert load_model(out / "model").card.name == "photos"
    assert figures.read_text() == (out / "results.csv").read_text()
    assert json.loads((out / "recipe.json").read_text())["train"]["lr"] == 1e-4

    # The run exists: it is not overwritten, and can only be resumed.
    again = qfm(recipe, "--out", out, "--set", "train.lr=1e-4")
    assert isinstance(again.exception, RecipeError)
    assert "continue with --resume" in str(again.exception)
    other = qfm(recipe, "--out", out, "--resume")
    assert isinstance(other.exception, RecipeError)
    assert "run of another recipe" in str(other.exception)
    resumed = qfm(recipe, "--out", out, "--resume", "--set", "train.lr=1e-4")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout == done.stdout


def test_the_run_lies_in_runs_under_the_models_name(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert qfm(recipe, "--set", "model.name=mine").exit_code == 0
    assert load_model(tmp_path / "runs" / "mine" / "model").card.name == "mine"


@pytest.mark.parametrize("results", ["figures.txt", "nowhere/figures.csv"])
def test_figures_that_cannot_be_written_are_refused_before_training(recipe, tmp_path, results):
    done = qfm(recipe, "--out", tmp_path / "run", "--results", tmp_path / results)
    assert isinstance(done.exception, QFMError)
    assert results in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_an_interruption_says_how_to_go_on(recipe, tmp_path, monkeypatch):
    from qfm_iqm.training.trainer import Trainer

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train", interrupted)
    done = qfm(recipe, "--out", tmp_path / "run")
    assert done.exit_code == 130
    assert "Interrupted: continue with the same command and --resume" in done.stderr


def test_without_the_training_extra_it_says_what_to_install(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for room in ("pipeline", "stages", "teaching", "trainer"):
        monkeypatch.delitem(sys.modules, f"qfm_iqm.training.{room}", raising=False)
    done = qfm(recipe, "--out", tmp_path / "run")
    assert isinstance(done.exception, QFMError)
    assert "Training needs accelerate" in str(done.exception)
    assert "qfm-iqm[train]" in str(done.exception)


def test_a_mistake_is_one_sentence_and_exit_code_2(recipe, tmp_path, monkeypatch, qfm):
    monkeypatch.chdir(tmp_path)
    answer = qfm("train", recipe, "--set", "train.epoch=3")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"qfm: In {recipe}: unknown key 'train.epoch' (did you mean 'train.epochs'?).\n"
    )
    assert not (tmp_path / "runs").exists()
