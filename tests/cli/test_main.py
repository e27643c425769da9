import subprocess
import sys
from importlib import metadata

import pytest

VERBS = (
    "score", "report", "gate", "serve", "explain", "train", "evaluate", "diagnose", "ablate",
    "pseudo-label",
)  # fmt: skip


def test_help_names_every_verb(qfm):
    for flag in ("--help", "-h"):
        answer = qfm(flag)
        assert answer.code == 0
        for verb in VERBS:
            assert verb in answer.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(qfm, verb):
    answer = qfm(verb, "--help")
    assert answer.code == 0
    assert "--" in answer.out


def test_version(qfm):
    assert qfm("--version").out == f"qfm-iqm {metadata.version('qfm-iqm')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["score", "--no-such-option"],
        ["score", "x.jpg", "--batch-size", "0"],
        ["score", "x.jpg", "--readers", "many"],
        ["evaluate", "model"],
        ["report", "scores.csv"],
        ["gate", "--min", "50"],
        ["serve", "--port", "70000"],
        ["pseudo-label", "model", "table.csv", "-o", "x.csv", "--part", "all"],
    ],
)
def test_a_wrong_command_line_is_code_2(qfm, arguments):
    answer = qfm(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert "Usage: " in answer.err
    assert "Traceback" not in answer.err


def test_a_mistake_is_one_sentence(qfm, tmp_path):
    answer = qfm("score", tmp_path, "--model", tmp_path)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == f"qfm: There is no image in {tmp_path}.\n"


def test_a_defect_shows_where_it_is_and_is_code_2(qfm, tmp_path, monkeypatch):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("qfm_iqm.scoring.files.find_images", broken)
    for verb in (["gate", "--min", "1"], ["score"]):
        answer = qfm(*verb, tmp_path)
        assert answer.code == 2  # 1 would say that images are not good enough, or not scored
        assert "Traceback" in answer.err
        assert "ZeroDivisionError: inside" in answer.err


def test_the_installed_command_and_the_module_are_one(start):
    process = start("--version")
    out, _ = process.communicate(timeout=60)
    module = subprocess.run(
        [sys.executable, "-m", "qfm_iqm", "--version"], capture_output=True, timeout=60
    )
    assert process.returncode == module.returncode == 0
    assert out == module.stdout
