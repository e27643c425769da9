"""`qfm second-opinion`: a trained model in, one that also judges scene statistics out."""

import json

import pytest

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.model.folder import load_model, save_model


@pytest.fixture
def table(photo_folder, tmp_path):
    """Twelve photos, labelled by their number."""
    names = sorted(path.name for path in photo_folder.iterdir())
    path = tmp_path / "labels.csv"
    path.write_text("name,mos\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    return path


@pytest.fixture
def trained(table, build_model, tmp_path):
    """A model whose card says that it was trained on a part of them."""
    model, told = build_model(), {"test": 0.2, "validation": 0.4, "split_seed": 0}
    split = split_by_content(read_table(table), test=0.2, validation=0.4)
    model.card.training = {"split_sha256": split.sha256, "recipe": {"data": told}}
    save_model(model, tmp_path / "trained")
    return tmp_path / "trained"


def test_from_the_train_part_and_a_teacher(qfm, trained, table, photo_folder, tmp_path):
    pseudo, out, place = tmp_path / "pseudo.csv", tmp_path / "out", ("--root", photo_folder)
    teaching = ("--extra-crops", 0, "--chains", 1, "-o", pseudo)
    said = qfm("pseudo-label", trained, table, *place, *teaching)
    assert said.code == 0, said.err
    said = qfm(
        "second-opinion", trained, table, *place, "--part", "train", "--pseudo-labels", pseudo,
        "--weight", 0.2, "-o", out,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert f"Model: {out}" in said.out
    card, rated = load_model(out).card, read_table(table)
    parts = split_by_content(rated, test=0.2, validation=0.4).indices(rated)
    told = card.training["second_opinion"]
    assert told["weight"] == card.network.statistics_weight == 0.2
    assert told["images"] == len(parts["train"])
    # The teacher scored all images: those of other parts are left out.
    own = {rated.names[i] for i in parts["train"]}
    scored = [line.split(",")[0] for line in pseudo.read_text().splitlines()[2:]]
    assert told["pseudo_labelled_crops"] == sum(name in own for name in scored) < len(scored)


def test_a_teacher_of_other_crops_is_refused(qfm, trained, table, photo_folder, tmp_path):
    pseudo = tmp_path / "pseudo.csv"
    facts = {"preprocessing": {"crop": 16}, "teacher_sha256": ""}
    pseudo.write_text(f"# {json.dumps(facts)}\nname,content,top,left,distortion,level,score\n")
    said = qfm(
        "second-opinion", trained, table, "--root", photo_folder, "--pseudo-labels", pseudo,
        "-o", tmp_path / "out",
    )  # fmt: skip
    assert said.code == 2
    assert "sees others" in said.err
    assert not (tmp_path / "out").exists()
