"""Processes forked after their parent has scored: they score too, or say why they cannot."""

import json
import os
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import json, multiprocessing, os, sys
from qfm_iqm import Scorer, load_runtime

_, folder, kind, loads, *files = sys.argv
runtime = load_runtime(folder, kind)

def scores(_=None):
    found = [row.score for row in Scorer(runtime).score_paths(files)]
    if kind == "torch":
        found += [runtime.model.score(file).value for file in files]
    return found

def answer(_=None):
    try:
        return scores()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

before = scores()
mine, theirs = os.pipe()
if os.fork() == 0:
    os.write(theirs, json.dumps(answer()).encode())
    os._exit(0)
os.close(theirs)
with os.fdopen(mine) as pipe:
    after = [json.load(pipe)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    after += pool.map(answer, range(3), chunksize=1)
if loads == "loads":
    from torch.utils.data import DataLoader
    after += DataLoader([0, 1], batch_size=None, num_workers=1, collate_fn=answer,
                        multiprocessing_context="fork")
print(json.dumps({"before": before, "after": after, "again": scores()}))
"""
SECONDS = 300  # enough for a busy machine; a fork that waits for its parent's threads never ends


def scored(folder, kind, photos, loads=""):
    """The output of a process and its forks."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), kind, loads, *map(str, photos)],
        env=os.environ | {"OMP_NUM_THREADS": "2"},  # threads that a fork could wait for
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return json.loads(said)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_fork_gives_the_scores_of_its_parent(kind, photo_folder):
    said = scored("default", kind, sorted(photo_folder.iterdir())[:3], "loads")
    assert said["again"] == said["before"]
    assert len(said["after"]) == 6
    for scores in said["after"]:
        assert scores == pytest.approx(said["before"], abs=1e-3)


def test_openvino_says_at_once_that_it_cannot_go_on(tiny_model_folder, photo_folder, tmp_path):
    pytest.importorskip("openvino")
    from qfm_iqm.model.folder import load_model
    from qfm_iqm.scoring.runtimes.export import export

    export(load_model(tiny_model_folder), tmp_path / "exported", "openvino")
    said = scored(tmp_path / "exported", "openvino", sorted(photo_folder.iterdir())[:2])
    assert set(said["after"]) == {
        "QFMError: OpenVINO cannot compute in a process that was forked after the model was "
        "loaded: start that process with spawn, and load the model there."
    }
    assert said["again"] == said["before"]
