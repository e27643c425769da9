import socket
import subprocess
import sys

import pytest
import torch

pytest.importorskip("torchmetrics")
from torchmetrics import MetricCollection

from qfm_iqm.scoring.metric import QualityMetric

# Each process sees a part of the images; both must come to the mean of all.
PROGRAM = """
import sys
import torch
from qfm_iqm.network.checkpoint import load_model
from qfm_iqm.scoring.metric import QualityMetric
torch.set_num_threads(1)
rank, port, model = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group(
    "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
)
images = torch.rand(7, 3, 50, 60, generator=torch.Generator().manual_seed(0))
metric = QualityMetric(load_model(model))
for image in (images[:5] if rank == 0 else images[5:]):
    metric.update(image[None])
print(repr(metric.compute().item()))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def model(build_model):
    return build_model()


@pytest.fixture
def images():
    return torch.rand(7, 3, 50, 60, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_the_models_scores(model, images):
    metric = QualityMetric(model)
    expected = model(images).double()
    assert metric(images[:3]).item() == pytest.approx(expected[:3].mean().item(), abs=1e-3)
    metric.update(list(images[3:]))
    assert metric.compute().item() == pytest.approx(expected.mean().item(), abs=1e-3)
    metric.reset()
    assert metric.compute().isnan()
    metric.update(images[:1])
    assert metric.compute().item() == pytest.approx(expected[0].item(), abs=1e-3)


def test_it_does_not_depend_on_batches(model, images):
    whole, single = QualityMetric(model, batch_size=3), QualityMetric(model)
    whole.update(images)
    for image in images:
        single.update(image[None])
    assert whole.compute().item() == pytest.approx(single.compute().item(), abs=1e-4)


def test_it_is_a_metric_like_others(model, images):
    metrics = MetricCollection({"quality": QualityMetric(model)})
    metrics.update(images)
    assert set(metrics.compute()) == {"quality"}
    assert metrics["quality"].higher_is_better is True
    with pytest.raises(ValueError, match="RGB tensors"):
        metrics.update(images[:, :1])


def test_processes_come_to_one_mean(model, images, tiny_model_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(rank), str(port), str(tiny_model_folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        answers = [float(process.communicate(timeout=300)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert answers[0] == answers[1]
    assert answers[0] == pytest.approx(model(images).double().mean().item(), abs=1e-3)
