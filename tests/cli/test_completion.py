"""Completion in a real bash: the installed script offers verbs, options and models."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def qfm_in(home, *arguments, **environment):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [BIN / "qfm", *arguments],
        env=os.environ | {"HOME": str(home), "PATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def offered(home, *words):
    """What bash offers for the last of some words, from the script that was installed."""
    script = home / ".bash_completions" / "qfm.sh"
    quoted = " ".join(f"'{word}'" for word in words)
    asked = (
        f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        r"_qfm_completion qfm; printf '%s\n' ${COMPREPLY[@]}"
    )
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", asked],
        env=os.environ | {"HOME": str(home), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    # typer detects its shell, unless this is set: then it needs the shell's name.
    done = qfm_in(
        folder, "--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert done.returncode == 0, done.stderr
    assert "qfm.sh" in (folder / ".bashrc").read_text()
    return folder


@bash
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["qfm", "ca"], {"calibrate"}),
        (["qfm", "bench", "c"], {"curve", "cross"}),
        (
            ["qfm", "gate", "--max-"],
            {"--max-cause", "--max-drop", "--max-megapixels", "--max-memory"},
        ),
        (["qfm", "score", "--model", ""], {"default", "vit-tiny"}),
        (["qfm", "score", "--model", "vit"], {"vit-tiny"}),
        (["qfm", "export", "--to", "o"], {"onnx", "openvino"}),
    ],
)
def test_bash_offers_what_fits(home, words, expected):
    assert offered(home, *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_shells_are_shown(tmp_path, shell):
    disabled = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = qfm_in(tmp_path, "--show-completion", shell, **disabled)
    assert done.returncode == 0, done.stderr
    assert "_QFM_COMPLETE=complete_" in done.stdout
