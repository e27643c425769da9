import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.datasets.splits import split_by_content
from qfm_iqm.model.folder import load_model, save_model


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no hub here")

    monkeypatch.setattr("qfm_iqm.model.weights.load_state_dict_from_hf", refuse)
    monkeypatch.delenv("QFM_BACKBONE_DIR", raising=False)


@pytest.fixture
def labels(photo_folder, tmp_path):
    names = sorted(path.name for path in photo_folder.iterdir())
    mos = np.random.default_rng(2).normal(50, 10, len(names))
    path = tmp_path / "labels.csv"
    rows = (f"{name},{y}\n" for name, y in zip(names, mos, strict=True))
    path.write_text("name,mos\n" + "".join(rows))
    return path


SCHEMA = {
    "format": int,
    "table": str,
    "split": type(None),
    "model": str,
    "weights_sha256": str,
    "settings": dict,
    "aliasing": dict,
    "noise_sensitivity": float,
    "fallbacks": int,
    "quality_sensitivity": float,
    "selectivity": float,
    "selectivity_missing": str,
    "responses": list,
}


def test_json_figure_and_what_is_printed(qfm, labels, photo_folder, tiny_model_folder, tmp_path):
    out, figure = tmp_path / "diagnosis.json", tmp_path / "diagnosis.svg"
    answer = qfm(
        "bench", "diagnose", labels, "--model", tiny_model_folder, "--root", photo_folder,
        "--out", out,
        "--figure", figure, "--alpha", 0.3, "--seed", 5, "--tau", 0.4, "--neighbors", 3,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    found = json.loads(out.read_text())
    assert {key: type(value) for key, value in found.items()} == SCHEMA
    assert (found["format"], found["table"]) == (1, "labels.csv")
    assert found["settings"] == {
        "images": 12, "alpha": 0.3, "tau": 0.4, "neighbors": 3, "threshold": 1.0, "seed": 5,
    }  # fmt: skip
    assert set(found["aliasing"]) == {"random_pairs", "trained", "backbone", "backbone_missing"}
    assert 0 < found["aliasing"]["trained"]["rate"] < 1
    assert found["selectivity"] == pytest.approx(
        found["quality_sensitivity"] / found["noise_sensitivity"]
    )
    assert [(one["distortion"], one["level"]) for one in found["responses"]] == [
        (kind, level)
        for kind in ("gaussian blur", "jpeg", "white noise")
        for level in (1, 2, 3, 4, 5)
    ]
    for text in (
        f"{found['aliasing']['trained']['rate']:.1%}",
        f"{found['noise_sensitivity']:.4f}",
        f"{found['selectivity']:.2f}",
        f"{found['responses'][-1]['change']:.2f}",
        "selectivity S_q / S_n",
        "jpeg",
    ):
        assert text in answer.out
    assert max(map(len, answer.out.splitlines())) <= 100
    assert "…" not in answer.out
    assert answer.err.startswith("Without the public backbone: ")
    assert "no hub here" in answer.err
    assert "Feature aliasing" in "".join(ElementTree.parse(figure).getroot().itertext())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "diagnosis.json", "diagnosis.svg", "labels.csv",
    ]  # fmt: skip


def test_the_tables_own_folder_is_the_default_root(qfm, labels, photo_folder, tiny_model_folder):
    for photo in photo_folder.iterdir():
        shutil.copy(photo, labels.parent)
    answer = qfm("bench", "diagnose", labels, "--model", tiny_model_folder, "--no-backbone")
    assert answer.code == 0
    assert answer.err == ""


def test_only_a_part_and_only_some(qfm, labels, photo_folder, tiny_model_folder, tmp_path):
    split = split_by_content(read_table(labels), test=0.05, validation=0, seed=0)
    assert (len(split.train), len(split.test)) == (11, 1)
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    card = json.loads((model / "card.json").read_text())
    card["training"] = {
        "split_sha256": split.sha256,
        "recipe": {"data": {"test": 0.05, "validation": 0, "split_seed": 0}},
    }
    (model / "card.json").write_text(json.dumps(card))
    out = tmp_path / "out.json"
    arguments = (labels, "--root", photo_folder, "--no-backbone", "--out", out)
    for more, part in ((["--split", "train"], "train"), (["--images", 11], None)):
        answer = qfm("bench", "diagnose", *arguments, "--model", model, *more)
        assert answer.code == 0, answer.err
        found = json.loads(out.read_text())
        assert (found["settings"]["images"], found["split"]) == (11, part)
    refused = qfm("bench", "diagnose", *arguments, "--model", tiny_model_folder, "--split", "test")
    assert refused.code == 2
    assert "records no rule" in refused.err


def test_a_model_that_reacts_to_nothing_is_named(
    qfm, labels, photo_folder, tiny_model_folder, tmp_path
):
    model = load_model(tiny_model_folder)
    model.network.decoder.head.weight.data.zero_()
    save_model(model, tmp_path / "constant")
    out, figure = tmp_path / "out.json", tmp_path / "figure.png"
    answer = qfm(
        "bench", "diagnose", labels, "--model", tmp_path / "constant",
        "--root", photo_folder, "--no-backbone",
        "--out", out, "--figure", figure,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "predictions never change." in answer.err
    assert json.loads(out.read_text())["selectivity"] is None
    assert figure.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--root", "."], "photo_00.jpg"),
        (["--out", "found.csv"], "must end in .json"),
        (["--out", "gone/found.json"], "there is no folder gone"),
        (["--figure", "found.pdf"], "must end in .svg or .png"),
        (["--figure", "gone/found.svg"], "there is no folder gone"),
        (["--device", "warp"], "The device 'warp' cannot be used"),
        (["--images", "9"], "give more contents, or take fewer"),
        (["--alpha", "inf"], "alpha must be a number of at least 0"),
    ],
)
def test_mistakes_are_one_sentence(
    qfm, labels, photo_folder, tiny_model_folder, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(labels.parent)
    root = [] if "--root" in arguments else ["--root", photo_folder]
    answer = qfm("bench", "diagnose", labels, "--model", tiny_model_folder, *root, *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_table_without_labels(qfm, labels, photo_folder, tiny_model_folder):
    labels.write_text("name\nphoto_00.jpg\n")
    answer = qfm("bench", "diagnose", labels, "--model", tiny_model_folder, "--root", photo_folder)
    assert answer.code == 2
    assert "mos" in answer.err


def test_without_matplotlib_a_figure_is_one_sentence_and_the_rest_works(
    qfm, labels, photo_folder, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("qfm_iqm.report.")]:
        monkeypatch.delitem(sys.modules, name)
    arguments = (
        "bench",
        "diagnose",
        labels,
        "--model",
        tiny_model_folder,
        "--root",
        photo_folder,
        "--no-backbone",
    )
    answer = qfm(*arguments, "--figure", tmp_path / "a.svg")
    assert answer.code == 2
    assert answer.err == (
        "qfm: A figure needs matplotlib: install it with pip install 'qfm-iqm[figures]'.\n"
    )
    assert qfm(*arguments).code == 0


def test_help_is_instant():
    code = (
        "import sys; sys.argv = ['qfm', 'diagnose', '--help']\n"
        "from qfm_iqm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print('HEAVY', {'torch', 'numpy', 'matplotlib'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY set()"
