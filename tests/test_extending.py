"""docs/extending.md: its examples are run as written."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import qfm_iqm
from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.checking import check_dataset
from qfm_iqm.errors import ModelError, RecipeError
from qfm_iqm.method.matching import MATCHING
from qfm_iqm.model.backbone import BACKBONES
from qfm_iqm.model.decoder import DECODERS
from qfm_iqm.model.folder import load_model
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.training.recipe_file import check_recipe, read_recipe
from qfm_iqm.training.trainer import Trainer

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")


def blocks(title, language):
    """The blocks of code of a section."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def example():
    """Runs a section's example; afterwards no mapping holds it."""
    kept = [(mapping, dict(mapping)) for mapping in (BACKBONES, DECODERS, MATCHING, DATASETS)]

    def run(title):
        (code,) = blocks(title, "python")
        exec(compile(code, f"docs/extending.md: {title}", "exec"), {})

    yield run
    for mapping, before in kept:
        mapping.clear()
        mapping.update(before)


def recipe(rated_set, **sections):
    content = {
        "model": {"name": "extended"},
        "data": {"root": str(rated_set), "labels": "labelled.csv", "validation": 0.2},
        "backbone": {"name": "test_vit", "weights": "random"},
        "network": {"crop": 32},
        "train": {"epochs": 1, "batch_size": 8, "crops_per_image": 2, "device": "cpu"},
    }
    for name, section in sections.items():
        content[name] = content.get(name, {}) | section
    return check_recipe(content)


@pytest.mark.parametrize("tune", ["all", "none"])
def test_a_backbone_that_is_not_timms_is_trained_saved_and_loaded(
    example, rated_set, tmp_path, tune
):
    example("A backbone")
    checked = recipe(
        rated_set, backbone={"name": "color-grid", "tune": tune}, method={"kind": "qfm"}
    )
    run = Trainer(checked, tmp_path / "run")
    first = {key: value.clone() for key, value in run.model.network.encoder.state_dict().items()}
    run.run()
    model = load_model(tmp_path / "run/model")
    assert model.network.config.backbone == "color-grid"
    assert model.network.encoder.patches == 7
    same = all(torch.equal(first[k], v) for k, v in model.network.encoder.state_dict().items())
    assert same == (tune == "none")
    crops = torch.rand(2, 3, 32, 32)
    assert model.network.encode(crops).shape == (2, 50, 64)
    frozen = model.network.encoder.frozen_features(crops)
    torch.testing.assert_close(model.network.encode(frozen), model.network.encode(crops))


def test_a_decoder_is_trained_saved_and_loaded(example, rated_set, tmp_path):
    with pytest.raises(ModelError, match="no decoder 'mean'; choose attention-panel"):
        QualityNetwork("test_vit", crop=32, decoder="mean")
    example("A decoder")
    Trainer(recipe(rated_set, network={"decoder": "mean"}), tmp_path / "run").run()
    network = load_model(tmp_path / "run/model").network
    assert type(network.decoder).__name__ == "MeanDecoder"
    assert network.config.decoder == "mean"


def test_a_matching_rule_is_trained_with(example, rated_set, tmp_path):
    with pytest.raises(RecipeError, match=r"no such matching rule; choose quality, "):
        recipe(rated_set, method={"matching": "oldest"})
    example("A matching rule")
    run = Trainer(recipe(rated_set, method={"kind": "qfm", "matching": "oldest"}), tmp_path / "run")
    run.run()
    assert run.objective.counts["matched"] > 0
    assert run.objective.counts["fallbacks"] == 0


def test_a_dataset_is_checked_and_trained_on(example, rated_set, tmp_path):
    file = tmp_path / "any.toml"
    changes = [
        f"data.root='{rated_set}'", "data.validation=0.2", "backbone.weights=random",
        "train.device=cpu",
    ]  # fmt: skip
    file.write_text('[backbone]\nname = "test_vit"\n[network]\ncrop = 32\n[train]\nepochs = 1\n')
    with pytest.raises(Exception, match="There is no dataset 'scenes'"):
        read_recipe(file, changes, dataset="scenes")
    example("A dataset")
    assert not check_dataset(DATASETS["scenes"], rated_set).findings
    checked = read_recipe(file, changes, dataset="scenes")
    assert (checked.data.group, checked.train.batch_size) == ("subset", 8)
    assert checked.model.name == "any-scenes"
    found = Trainer(checked, tmp_path / "run").run()
    assert {"whole", "even", "odd"} <= {row.subset for row in found.rows}


def test_a_column_is_a_field_and_the_line_that_computes_it(tmp_path, photo_folder):
    package = tmp_path / "qfm_iqm"
    shutil.copytree(Path(qfm_iqm.__file__).parent, package)
    for file, block in zip(
        ("scoring/row.py", "scoring/scorer.py"), blocks("A column", "diff"), strict=True
    ):
        lines = block.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] == " ")
        new = "".join(f"{line[1:]}\n" for line in lines)
        text = (package / file).read_text("utf-8")
        assert text.count(old) == 1, file
        (package / file).write_text(text.replace(old, new), "utf-8")
    command = [sys.executable, "-m", "qfm_iqm", "score", photo_folder, "--out", tmp_path / "s.csv"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "s.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        assert float(row["megapixels"]) == int(row["width"]) * int(row["height"]) / 1e6
