"""`pyiqa.create_metric("qfm")` with the real pyiqa.

pyiqa needs hundreds of packages. If it is not installed beside this package,
`QFM_PYIQA=path/to/python` names an environment with both; without either the test is skipped.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from qfm_iqm.model.folder import load_model

PYTHON = os.environ.get("QFM_PYIQA") or sys.executable
PROGRAM = """
import json, sys
import pyiqa
import torch
from PIL import Image
folder, *photos = sys.argv[1:]
{before}
metric = pyiqa.create_metric("qfm", model=folder, device="cpu")
said = {{
    "scores": [metric(photo).item() for photo in photos],
    "listed": "qfm" in pyiqa.list_models(metric_mode="NR"),
    "lower_better": metric.lower_better,
    "batch": metric(torch.rand(3, 3, 60, 70)).shape,
    "gray": metric(torch.rand(2, 1, 60, 70)).shape,
}}
loss = pyiqa.create_metric("qfm", as_loss=True, model=folder, device="cpu")
image = torch.rand(1, 3, 60, 70, requires_grad=True)
loss(image).backward()
said["gradient"] = image.grad.abs().sum().item()
print(json.dumps(said))
"""
WAYS = {
    "by import": "import qfm_iqm.integrations.pyiqa",
    "by entry point": "from pyiqa.utils import registry; assert 'QFM' in registry.ARCH_REGISTRY",
}


@pytest.mark.parametrize("way", WAYS)
def test_pyiqa_creates_the_metric(photo_folder, tiny_model_folder, tmp_path, way):
    if "QFM_PYIQA" not in os.environ and find_spec("pyiqa") is None:
        pytest.skip("pyiqa is not installed, and QFM_PYIQA names no Python that has it")
    photos = sorted(map(str, photo_folder.glob("*.png")))
    done = subprocess.run(
        [PYTHON, "-c", PROGRAM.format(before=WAYS[way]), str(tiny_model_folder), *photos],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    model = load_model(tiny_model_folder)
    assert said["scores"] == pytest.approx([model.score(p).value for p in photos], abs=0.05)
    assert said["listed"]
    assert said["lower_better"] is False
    assert (said["batch"], said["gray"]) == ([3, 1], [2, 1])
    assert said["gradient"] > 0
