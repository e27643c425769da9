"""The mean of models against numpy, and what has no mean."""

import copy

import numpy as np
import pytest
import torch

from qfm_iqm.errors import ModelError
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.averaging import averaged


@pytest.fixture
def trained_on(build_model):
    """Makes models that were trained on, a little and each otherwise, from the same weights."""
    start = build_model()

    def make(seed):
        model, draw = copy.deepcopy(start), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.network.parameters():
                weight += 0.1 * weight.std(correction=0) * torch.randn(weight.shape, generator=draw)
        model.card = model.card.model_copy(update={"weights_sha256": f"of {seed}"})
        return model

    return make


def test_each_weight_is_the_mean(trained_on):
    models = [trained_on(seed) for seed in range(3)]
    found = averaged(models)
    states = [model.network.state_dict() for model in models]
    for key, value in found.network.state_dict().items():
        expected = np.mean([state[key].double().numpy() for state in states], 0)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert found.card.training["average_of"] == ["of 0", "of 1", "of 2"]
    assert (found.card.results, found.card.reference_statistics) == ([], None)
    assert not found.training


def test_the_mean_of_one_thing_is_that_thing(trained_on):
    model = trained_on(0)
    size = model.card.preprocessing.crop
    crops = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(averaged([model] * 4).network(crops), model.network(crops))


def test_models_of_other_beginnings_have_none(trained_on, build_model):
    with pytest.raises(ModelError, match="not trained on from the same weights"):
        averaged([trained_on(0), build_model(seed=5)])


def test_what_else_has_none(trained_on, build_model):
    model, other = trained_on(0), trained_on(1)
    with pytest.raises(ModelError, match="two models at least"):
        averaged([model])
    other.network.scale.mean += 1
    with pytest.raises(ModelError, match="labels of another scale"):
        averaged([model, other])
    crops = Preprocessing(crop=model.card.preprocessing.crop, shorter_side=64)
    other.card = other.card.model_copy(update={"preprocessing": crops})
    with pytest.raises(ModelError, match="differ in 'preprocessing'"):
        averaged([model, other])
    with pytest.raises(ModelError, match="second opinion has no average"):
        averaged([build_model(statistics=4)] * 2)
    with pytest.raises(ModelError, match="batch normalisation"):
        averaged([build_model(backbone="mobilenetv4_conv_small")] * 2)
