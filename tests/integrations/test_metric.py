import copy
import pickle

import pytest
import torch

pytest.importorskip("torchmetrics")
from torchmetrics import MetricCollection

from qfm_iqm.integrations.metric import QualityMetric
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.folder import save_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.scoring.runtimes.load import load_runtime

# Each process gets a part of the images; both must give the mean of all.
IMPORTS = """
from qfm_iqm.model.folder import load_model
from qfm_iqm.integrations.metric import QualityMetric
"""
PROGRAM = """
metric = QualityMetric(load_model(folder / "model"))
for image in (given["images"][:5] if rank == 0 else given["images"][5:]):
    metric.update(image[None])
result = {"mean": metric.compute()}
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


def test_processes_come_to_one_mean(two_ranks, model, images, tmp_path):
    save_model(model, tmp_path / "model")
    answers = two_ranks(PROGRAM, {"images": images}, IMPORTS)
    first, second = (answer["mean"].item() for answer in answers)
    assert first == second
    assert first == pytest.approx(model(images).double().mean().item(), abs=1e-3)


COPIES = {
    "clone": lambda metric: metric.clone(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda metric: pickle.loads(pickle.dumps(metric)),
    "in a collection": lambda metric: MetricCollection([metric]).clone()["QualityMetric"],
}


@pytest.fixture(scope="module")
def runtimes(model):
    """All values that a metric may hold."""
    return {
        "the default": load_runtime(),
        "a model": model,
    }


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", ["the default", "a model"])
def test_a_copy_goes_on_by_itself(runtimes, images, kind, way):
    metric = QualityMetric(runtimes[kind])
    metric.update(images[:3])
    other = COPIES[way](metric)
    assert other.compute() == metric.compute()
    other.update(images[3:])
    assert other.compute() != metric.compute()
    metric.update(images[3:])
    assert other.compute() == metric.compute()


def test_models_in_one_collection_are_each_computed(model, images):
    """Although the first scores of both are equal: at the end of the scale."""
    label = LabelUnits(minimum=1000.0, maximum=2000.0)
    low = QualityModel(model.network, model.card.model_copy(update={"label": label})).eval()
    high = copy.deepcopy(low)
    metrics = MetricCollection({"low": QualityMetric(low), "high": QualityMetric(high)})
    metrics.update(images[:2])
    assert metrics.compute()["low"] == metrics.compute()["high"] == 0
    high.network.scale.mean.fill_(1500.0)
    metrics.update(images[2:])
    found = metrics.compute()
    assert found["low"] == 0
    assert 5 / 7 * 40 < found["high"] < 5 / 7 * 60


def test_states_from_inference_mode_are_gone_on_with(model, images):
    metric = QualityMetric(model)
    with torch.inference_mode():
        metric.reset()
        metric.update(images[:3])
    metric.update(images[3:])
    expected = QualityMetric(model)
    expected.update(images)
    assert metric.compute().item() == pytest.approx(expected.compute().item(), abs=1e-4)
