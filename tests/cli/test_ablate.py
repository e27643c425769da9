"""`qfm bench ablate`: from a grid to figures, a table and a drawing; a killed run resumes."""

import csv
import json
import os
import shutil
import signal
import time
from xml.etree import ElementTree

import pytest

BASE = """
[data]
root = {root}
labels = {labels}
test = 0.4
validation = 0.4
[backbone]
name = "test_vit"
weights = "random"
[network]
crop = 48
[train]
epochs = {epochs}
batch_size = 2
device = "cpu"
"""

GRID = """
recipe = "base.toml"
seeds = [0, 1]
references = ["baseline"]
[settings.tiny]
[variants.baseline]
[variants.qfm]
"method.kind" = "qfm"
"""

OUTPUTS = ("runs.csv", "summary.csv", "summary.md", "summary.svg")


@pytest.fixture(scope="module")
def grid(photo_folder, tmp_path_factory):
    """Two variants under two seeds; twelve photos: five to test, five to select on."""
    tmp_path = tmp_path_factory.mktemp("grid")
    names = sorted(path.name for path in photo_folder.iterdir())
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "mos"), *((n, i) for i, n in enumerate(names))])
    places = {"root": json.dumps(str(photo_folder)), "labels": json.dumps(f"{tmp_path}/labels.csv")}
    (tmp_path / "base.toml").write_text(BASE.format(**places, epochs=1))
    (tmp_path / "tiny.toml").write_text(GRID)
    return tmp_path / "tiny.toml"


def test_figures_table_and_drawing_also_of_a_killed_run(qfm, forked, grid, tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    answer = qfm("bench", "ablate", grid, "--out", runs, "--results", results)
    assert answer.code == 0, answer.err
    assert "Run 4 of 4: tiny, qfm, seed 1" in answer.err
    for name in OUTPUTS:
        assert (results / f"tiny_{name}").read_bytes() == (runs / name).read_bytes()
    assert answer.out.strip() == (runs / "summary.md").read_text().strip()
    assert "| qfm |" in answer.out
    ElementTree.parse(runs / "summary.svg")
    with (results / "tiny_summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "setting",
        "variant",
        "reference",
        "metric",
        "subset",
        "pairs",
        "median",
        "mean_difference",
        "ci_low",
        "ci_high",
        "p",
    ]
    assert {(row["variant"], row["metric"], row["pairs"]) for row in rows} >= {
        ("qfm", "srcc", "2"),
        ("qfm", "plcc", "2"),
    }

    # All runs are finished: the same call runs nothing, and writes the same.
    before = {name: (runs / name).read_bytes() for name in OUTPUTS[:3]}
    shutil.rmtree(results)
    answer = qfm("bench", "ablate", grid, "--out", runs, "--results", results)
    assert answer.code == 0
    assert "Run" not in answer.err
    assert {name: (results / f"tiny_{name}").read_bytes() for name in before} == before

    # A killed grid resumes to the same result.
    killed = tmp_path / "killed"
    process = forked.start("bench", "ablate", grid, "--out", killed)
    while not (killed / "tiny" / "seed0" / "qfm").is_dir() and process.lives():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait()[0] == -signal.SIGKILL  # it was still running
    assert qfm("bench", "ablate", grid, "--out", killed).code == 0
    for name in OUTPUTS[:2]:
        assert (killed / name).read_bytes() == before[name]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gone.toml",), "There is no file gone.toml."),
        (("{grid}", "--set", "method.alpha=-1"), "method.alpha = -1 is refused"),
        (("{grid}", "--set", "huge:method.alpha=1"), "there is no setting 'huge'"),
        (("{grid}", "--results", "{grid}/below"), "tiny.toml"),
    ],
)
def test_mistakes_are_one_sentence(qfm, grid, tmp_path, arguments, sentence):
    given = [argument.format(grid=grid) for argument in arguments]
    answer = qfm("bench", "ablate", *given, "--out", tmp_path / "runs")
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "runs").exists()
