import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.network import LabelScale


def test_units_are_those_of_scipy_like_z_scores():
    labels = np.random.default_rng(0).normal(60, 12, 50)
    scale = LabelScale(labels.mean(), labels.std())
    standard = scale.to_standard(torch.tensor(labels)).numpy()
    np.testing.assert_allclose(standard, (labels - labels.mean()) / labels.std(), atol=1e-6)
    assert scale.to_units(torch.tensor([0.0, 1.0])).tolist() == pytest.approx(
        [labels.mean(), labels.mean() + labels.std()]
    )


@given(mean=st.floats(-1e3, 1e3), std=st.floats(1e-2, 1e3), z=st.floats(-5, 5))
def test_there_and_back(mean, std, z):
    scale = LabelScale(mean, std).double()
    back = scale.to_standard(scale.to_units(torch.tensor([z], dtype=torch.float64)))
    assert back.item() == pytest.approx(z, abs=1e-6)


def test_the_scale_travels_with_the_weights_and_is_not_learned():
    scale = LabelScale(3.5, 0.25)
    assert not list(scale.parameters())
    other = LabelScale()
    other.load_state_dict(scale.state_dict())
    assert (other.mean.item(), other.std.item()) == (3.5, 0.25)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_labels_without_spread_are_refused(std):
    with pytest.raises(ValueError, match="must be above zero"):
        LabelScale(0.0, std)


def test_units_refuse_an_unknown_field():
    with pytest.raises(ValidationError, match="unit"):
        LabelUnits(unit="DMOS")
    assert LabelUnits().higher_is_better
