"""Two processes, as `torchrun` starts them: one run, one set of files, one voice."""

import csv
import json
import os
import socket
import subprocess
import sys

import pytest

from qfm_iqm.model.folder import load_model


def in_two_processes(*arguments):
    """Calls `qfm` in two processes that find each other; gives what each said on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "qfm_iqm", *map(str, arguments)],
            env=os.environ
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
            | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    answers = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    return answers


@pytest.mark.parametrize("expanded", [False, True])
def test_a_run_in_two_processes(recipe_content, write_recipe, unrated_folder, tmp_path, expanded):
    content = recipe_content(method__kind="qfm", train__epochs=1, train__crops_per_image=2)
    if expanded:
        content["distillation"] = {"unlabelled": str(unrated_folder)}
    recipe = write_recipe(content, tmp_path / "recipe.toml")
    out = tmp_path / "run"
    (figures, said), (silence, other) = in_two_processes("train", recipe, "--out", out)
    assert "srcc" in figures
    assert "Best epoch by validation: 1" in said
    assert silence == ""
    assert "epoch" not in other
    steps = [
        line
        for line in map(json.loads, (out / "log.jsonl").read_text().splitlines())
        if line["kind"] == "step"
    ]
    # 24 images, two crops each, in batches of eight for each of two processes.
    assert steps[-1]["step"] == 3
    model = load_model(out / "model")
    with (out / "test.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert model.card.training["best_epoch"] == 1
    if expanded:
        assert len((out / "expansion.csv").read_text().splitlines()) == 22
        assert load_model(out / "teachers" / "baseline" / "model").card.name.endswith("-teacher")
