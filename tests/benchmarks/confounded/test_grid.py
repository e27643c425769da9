"""The whole experiment on a tiny scale: killed, resumed, shared between processes, summarized."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from confounded.config import read_confounding
from confounded.figures import confounding_table
from confounded.grid import choose_options, prepare, run_all
from confounded.rules import VARIANTS
from confounded.summary import find, gains_by_rho, summarize, told
from qfm_iqm.errors import RecipeError
from qfm_iqm.training.ablation import add_row, read_runs
from qfm_iqm.training.reporting import Reporter

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def rows_of(folder):
    """The runs by key, without their time."""
    rows = {}
    for row in read_runs(folder / "runs.csv"):
        key = row["setting"], row["variant"], row["seed"]
        assert key not in rows
        rows[key] = {name: value for name, value in row.items() if name != "seconds"}
    return rows


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run_all(prepare(recipe, out, Reporter(None)), Reporter(None))
    return out


def test_every_run_is_there_and_trials_have_seen_no_test(recipe, finished):
    rows = rows_of(finished)
    expected = {("trial1", variant, "100") for variant in VARIANTS}
    for name, setting in recipe.settings.items():
        for seed in setting.seeds:
            expected |= {(name, v, str(seed)) for v in setting.taken}
    assert rows.keys() == expected
    for (setting, variant, _), row in rows.items():
        if setting.startswith("trial"):
            assert not row["srcc"]
            assert row["validation_srcc"]
        else:
            assert float(row["srcc"]) == pytest.approx(
                (float(row["srcc_a"]) + float(row["srcc_b"])) / 2
            )
            assert (row["selectivity"] == "") == (setting == "human")
            assert float(row["epochs"]) == (1 if setting == "adapters" else 2), variant
    # Variants differ: each adds something else; the same run twice would be equal.
    of_seed = [row["srcc"] + row["noise_sensitivity"] for key, row in rows.items()
               if key[0] == "rho90" and key[2] == "0"]  # fmt: skip
    assert len(set(of_seed)) == len(VARIANTS)


def test_of_two_processes_one_is_killed_and_the_rows_are_the_same(recipe_file, finished, tmp_path):
    command = [sys.executable, str(BENCHMARKS / "confound.py"), str(recipe_file)]
    command += ["--out", str(tmp_path / "out"), "--results", str(tmp_path)]
    command += ["--setting", "rho90", "--set", "settings.rho90.seeds=[0]"]
    # Commands of other tests in this process have kept scripts' folders out for its children.
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    one, other = (
        subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environment)
        for _ in range(2)
    )
    while len(read_runs(tmp_path / "out/runs.csv")) < 5 and one.poll() is None:
        time.sleep(0.02)
    one.kill()
    one.communicate()
    printed, errors = other.communicate()
    assert (one.returncode, other.returncode) == (-signal.SIGKILL, 0), errors
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 2 * len(VARIANTS)
    assert rows == {key: row for key, row in rows_of(finished).items() if key in rows}
    assert printed == (tmp_path / "out/summary.md").read_text() + "\n"
    for name in (
        "summary.md",
        "summary.csv",
        "summary.svg",
        "options.csv",
        "clusters.csv",
        "runs.csv",
    ):
        assert (tmp_path / f"tiny_{name}").is_file()
    assert (tmp_path / "out/clusters.png").is_file()


def test_another_recipe_is_refused_and_more_seeds_are_not(recipe_file, finished):
    other = read_confounding(recipe_file, ["mild=3.8"])
    with pytest.raises(RecipeError, match="another recipe"):
        prepare(other, finished, Reporter(None))
    more = read_confounding(recipe_file, ["settings.rho90.seeds=[0, 1, 2]"])
    prepare(more, finished, Reporter(None))


def test_the_best_trial_on_validation_is_kept(recipe, tmp_path):
    trials = (recipe.trials[0], recipe.trials[0].model_copy(update={"alpha": 0.7}))
    two = recipe.model_copy(update={"trials": trials})
    for variant in VARIANTS:
        for trial, values in (
            (1, (0.5, 0.7)),
            (2, (0.9, 0.2) if variant == "none" else (0.6, 0.7)),
        ):
            for seed, value in enumerate(values):
                row = {"setting": f"trial{trial}", "variant": variant, "seed": str(seed)}
                add_row(tmp_path / "runs.csv", row | {"validation_srcc": str(value)})
    chosen = choose_options(two, tmp_path)
    assert {name for name, trial in chosen.items() if trial == trials[0]} == {"none"}


def test_the_summary_is_paired_and_waits_for_all_seeds(recipe, finished):
    comparisons = summarize(recipe, finished / "runs.csv")
    rows = rows_of(finished)
    for c in comparisons:
        if (c.setting, c.metric) == ("rho90", "srcc"):
            gains = [float(rows["rho90", c.variant, s]["srcc"])
                     - float(rows["rho90", c.reference, s]["srcc"]) for s in "01"]  # fmt: skip
            assert c.mean_difference == pytest.approx(sum(gains) / 2)
            assert c.pairs == 2
    assert find(recipe, comparisons) is not None
    assert told(recipe, comparisons).startswith("Verdict: ")
    assert list(gains_by_rho(recipe, comparisons, "qfm")) == [0.9]
    text = confounding_table(comparisons, told(recipe, comparisons))
    assert text.count("| oracle |") == 1
    assert "### human" in text

    later = recipe.settings["rho90"].model_copy(update={"seeds": (0, 1, 2)})
    waiting = recipe.model_copy(update={"settings": recipe.settings | {"rho90": later}})
    assert find(waiting, comparisons) is None
    assert "no verdict yet" in told(waiting, comparisons)
