"""Every dataset end to end: its recipe on its official folder layout, with a tiny backbone."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.splits import Split
from qfm_iqm.training.benchmark import plan_benchmark
from qfm_iqm.training.recipe_file import read_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "paper.toml"
# docs/method.md, section 10: batch sizes per process.
BATCHES = {
    "live": 12, "csiq": 12, "tid2013": 48, "kadid10k": 128,
    "livec": 16, "koniq10k": 128, "livefb": 256, "spaq": 128,
}  # fmt: skip
SQUEEZED = ("koniq10k", "spaq", "csiq")  # two with squeezed images, one with falling labels
TINY = {
    "data.validation": 0.2,
    "backbone.name": "test_vit",
    "backbone.weights": "random",
    "network.crop": 32,
    "train.epochs": 1,
    "train.batch_size": 8,
    "train.crops_per_image": 2,
    "train.warmup_epochs": 0.5,
    "train.device": "cpu",
    "method.memory": 32,
}


def tiny(root, **more):
    told = (
        TINY | {"data.root": f"'{root}'"} | {key.replace("__", "."): v for key, v in more.items()}
    )
    return [part for key, value in told.items() for part in ("--set", f"{key}={value}")]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DATASETS)
def test_recipes_have_the_papers_settings(name, official_trees):
    recipe = read_recipe(RECIPE, [f"data.root='{official_trees[name][0]}'"], dataset=name)
    facts = DATASETS[name]
    assert recipe.data.dataset == name
    assert recipe.data.label.higher_is_better == facts.higher_is_better
    assert (recipe.data.label.minimum, recipe.data.label.maximum) == (facts.minimum, facts.maximum)
    assert (recipe.data.name, recipe.data.terms) == (facts.title, facts.terms)
    assert recipe.backbone.name.startswith("deit3_small_patch16_224")
    train = recipe.train
    assert train.batch_size == BATCHES.get(name, 128)
    assert (train.epochs, train.lr, train.weight_decay, train.clip) == (9, 2e-4, 0.05, 5)
    assert (train.warmup_epochs, train.decay_epochs, train.decay) == (3, 3, 0.1)
    assert train.crops_per_image == 10
    assert (recipe.data.test, recipe.data.validation) == (0.2, 0.1)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_checked_benchmarked_and_crossed(name, qfm, official_trees, tmp_path):
    root = official_trees[name][0]
    assert qfm("data", "check", name, "--root", root).code == 1  # a small tree is incomplete

    out, results = tmp_path / "out", tmp_path / "new" / "results"
    stem, folds = f"paper_{name}", 2 if name == "csiq" else 1
    answer = qfm(
        "bench", "folds", RECIPE, "--dataset", name, "--folds", folds, "--out", out,
        "--results", results,
        "--protocol", "test-selected" if name in SQUEEZED else "validation-selected", *tiny(root),
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert f"| all | validation-selected | whole | {folds} |" in answer.out
    if name in SQUEEZED:
        card = json.loads((out / "all/fold0/model/card.json").read_text())
        squeeze = None if name == "csiq" else [512, 384]
        assert card["preprocessing"].get("squeeze") == squeeze
        assert f"| all | test-selected (optimistic) | whole | {folds} |" in answer.out
    beside = ("DeepEns", 1) if name == "biq2021" else ("QFM-IQM", 10)
    assert "| {} | published | whole | {} |".format(*beside) in answer.out
    protocol = "test-selected" if name in SQUEEZED else "validation-selected"
    assert (results / f"{stem}_{protocol.replace('-', '_')}_summary.csv").is_file()
    figures = rows_of(results / f"{stem}_{protocol.replace('-', '_')}_figures.csv")
    splits = [
        Split.from_text((out / "all" / f"fold{fold}" / "split.txt").read_text())
        for fold in range(folds)
    ]
    assert {row["split_sha256"] for row in figures} == {split.sha256 for split in splits}
    table = DATASETS[name].load(root)
    content_of = dict(zip(table.names, table.contents, strict=True))
    for split in splits:
        learnt = {content_of[image] for image in split.train + split.validation}
        assert not learnt & {content_of[image] for image in split.test}

    answer_of_benchmark = answer
    target = {"csiq": "livec", "livec": "koniq10k"}.get(name, "csiq")
    answer = qfm(
        "bench", "cross", f"{target}={official_trees[target][0]}",
        "--model", out / "all/fold0/model",
        "--results", tmp_path / "cross.csv", "--bootstrap", 0,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    crossed = rows_of(tmp_path / "cross.csv")
    assert {row["split_sha256"] for row in crossed} == {splits[0].sha256}
    summary = rows_of(results / f"{stem}_{protocol.replace('-', '_')}_summary.csv")
    digests = " ".join(split.sha256 for split in splits)
    assert {row["split_sha256"] for row in summary if row["folds"] == str(folds)} == {digests}
    assert splits[0].sha256[:12] in answer_of_benchmark.out
    assert {row["metric"] for row in crossed} == {
        "srcc", "krcc", "plcc_logistic",
    }  # fmt: skip
    assert f"{DATASETS[name].title} on" in answer.out
    published = [line.split() for line in answer.out.splitlines() if "published" in line]
    assert published == [["koniq10k", "(DEIQT,", "published)", "0.744"]] * (name == "livec")


def test_the_authors_split_is_used_where_it_is_marked(official_trees, tmp_path):
    root = official_trees["livefb"][0]
    assert planned(root, tmp_path) == ["content"] * 10
    header, *lines = (root / "labels_image.csv").read_text().splitlines()
    marked = [f"{line},{number % 3 == 0}" for number, line in enumerate(lines)]
    (tmp_path / "labels_image.csv").write_text("\n".join([f"{header},is_valid", *marked]))
    assert planned(tmp_path, tmp_path) == ["official"]


def planned(root, out):
    plan = plan_benchmark(
        RECIPE,
        out,
        protocol="validation-selected",
        folds=None,
        dataset="livefb",
        changes=[f"data.root='{root}'"],
    )
    return [fold.recipe.data.split for fold in plan]


def test_a_folder_without_its_dataset_is_refused(qfm, tiny_model_folder, tmp_path):
    answer = qfm("bench", "cross", f"spaq={tmp_path}", "--model", tiny_model_folder)
    assert answer.code == 2
    assert "holds no label file" in answer.err


def test_a_curve_has_a_row_for_each_share(qfm, official_trees, tmp_path):
    out = tmp_path / "curve"
    answer = qfm(
        "bench", "curve", RECIPE, "--dataset", "livefb", "--shares", "40,100", "--folds", 1,
        "--out", out,
        *tiny(official_trees["livefb"][0]),
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "| 40% | validation-selected | whole | 1 |" in answer.out
    assert "| all | validation-selected | whole | 1 |" in answer.out
    parts = [(out / share / "fold0/split.txt").read_text() for share in ("40", "all")]
    assert parts[0] == parts[1]  # fewer training labels, but the same validation and test images
    answer = qfm("bench", "curve", RECIPE, "--dataset", "livefb", "--shares", "a lot")
    assert answer.code == 2
    assert "--shares takes comma-separated percentages" in answer.err
    assert "[default: 20,40,60,80,100]" in qfm("bench", "curve", "--help").out


def test_folds_of_others_are_benchmarked_in_one_command(qfm, official_trees, tmp_path):
    root, splits = official_trees["livec"][0], tmp_path / "folds"
    answer = qfm("data", "split", "livec", "--root", root, "--folds", 2, "--validation", 0.2,
                 "--out", splits)  # fmt: skip
    digests = {line.split()[1] for line in answer.out.splitlines()}
    command = [
        "bench",
        "folds",
        RECIPE,
        "--dataset",
        "livec",
        "--out",
        tmp_path / "out",
        *tiny(root),
    ]
    answer = qfm(*command, "--splits", splits)
    assert answer.code == 0, answer.err
    assert "| all | validation-selected | whole | 2 |" in answer.out
    assert {row["split_sha256"] for row in rows_of(tmp_path / "out/figures.csv")} == digests


def test_the_authors_split_is_used_where_there_is_one(qfm, official_trees, tmp_path):
    root, out = official_trees["biq2021"][0], tmp_path / "out"
    command = ["bench", "folds", RECIPE, "--dataset", "biq2021", "--out", out, *tiny(root)]
    answer = qfm(*command, "--set", "data.validation=0.3")
    assert answer.code == 0, answer.err
    split = Split.from_text((out / "all/fold0/split.txt").read_text())
    table = DATASETS["biq2021"].load(root)
    official = zip(table.names, table.column("split"), strict=True)
    assert set(split.test) == {name for name, part in official if part == "test"}


def test_a_killed_benchmark_goes_on_where_it_was(qfm, forked, official_trees, tmp_path):
    root, out = official_trees["spaq"][0], tmp_path / "killed"
    command = ["bench", "folds", RECIPE, "--dataset", "spaq", "--folds", 2, *tiny(root)]
    process = forked.start(*command, "--out", out)
    second = out / "all/fold1/recipe.json"  # the first fold is finished, the second has begun
    while not second.is_file() and process.lives():
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    code, _, errors = process.wait()
    assert (second.is_file(), code) == (True, -signal.SIGKILL), errors
    kept = (out / "all/fold0/results.csv").stat().st_mtime_ns
    assert qfm(*command, "--out", out).code == 0
    assert (out / "all/fold0/results.csv").stat().st_mtime_ns == kept
    whole = tmp_path / "whole"
    assert qfm(*command, "--out", whole).code == 0
    assert rows_of(out / "figures.csv") == rows_of(whole / "figures.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "data.root=/none"], "there is no folder /none"),
        (["--set", "data.dataset=kadid"], "data.dataset = 'kadid' is refused"),
        (["--set", "data.labels=x.csv"], "exclude each other"),
        (["--set", "data.split=file"], "need each other"),
    ],
)
def test_mistakes_are_one_sentence(qfm, official_trees, tmp_path, arguments, message):
    root = official_trees["livec"][0]
    answer = qfm(
        "bench",
        "folds",
        RECIPE,
        "--dataset",
        "livec",
        "--out",
        tmp_path / "o",
        *tiny(root),
        *arguments,
    )
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "o").exists()
