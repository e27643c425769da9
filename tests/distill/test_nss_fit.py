"""A NSS branch is what least squares gives, and learns what it is shown."""

import numpy as np
import pytest
import torch

from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.distill.nss_fit import RIDGE, TEACHERS, fit_regressor, with_nss_branch
from qfm_iqm.distill.teacher import PseudoLabel
from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess_torch import eight_bits, resize_and_pad
from qfm_iqm.model.folder import load_model, save_model
from qfm_iqm.model.nss import SceneStatistics


def drawn(count):
    draw = np.random.default_rng(count)
    statistics = torch.tensor(draw.normal(size=(count, SceneStatistics.count)) + 3)
    target = torch.tensor(draw.normal(size=count))
    return statistics, target, torch.tensor(draw.uniform(0.2, 1, count))


def test_it_minimises_the_weighted_squares_and_the_ridge():
    statistics, target, weight = drawn(50)
    opinion = fit_regressor(statistics, target, weight, centres=12).double()
    fitted = opinion.weights.clone()

    def gradient(weights):
        opinion.weights = weights.requires_grad_()
        own = opinion.kernel(opinion.centres)
        squares = weight * (opinion.predict(statistics) - target).square()
        (found,) = torch.autograd.grad(squares.sum() + RIDGE * weights @ own @ weights, weights)
        return found

    assert gradient(fitted).abs().max() < 1e-3 * gradient(torch.zeros_like(fitted)).abs().max()


def test_its_scale_is_that_of_the_crops_and_its_centres_are_of_them():
    statistics, target, weight = drawn(40)
    opinion = fit_regressor(statistics, target, weight, centres=100)
    standard = (statistics - statistics.mean(0)) / statistics.std(0, correction=0)
    nearest = torch.cdist(opinion.centres.double(), standard).min(1)
    assert nearest.values.max() < 0.1
    assert sorted(nearest.indices.tolist()) == list(range(40))
    one, again, other = (
        fit_regressor(statistics, target, weight, centres=9, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one.weights, again.weights)
    assert not torch.equal(one.centres, other.centres)


@pytest.fixture(scope="module")
def rated(photo_folder):
    names = tuple(sorted(path.name for path in photo_folder.iterdir()))
    return RatedTable(names, mos=np.linspace(70, 30, 12))  # noise grows with the number


def test_a_model_gets_one(tiny_model_folder, rated, photo_folder, tmp_path):
    model = load_model(tiny_model_folder)
    first = rated.names[0]
    pseudo = [
        PseudoLabel(first, "a", 0, 0, "", 0, 60.0),
        PseudoLabel(first, "a", 0, 0, "white noise", 5, 20.0),
    ]
    found = with_nss_branch(model, rated, photo_folder, pseudo=pseudo, centres=500)
    state, old = found.network.state_dict(), model.network.state_dict()
    assert state.keys() - old.keys() == {
        f"statistics.{name}" for name in ("mean", "deviation", "centres", "weights", "bias")
    }
    assert all(torch.equal(state[key], value) for key, value in old.items())
    told = found.card.training["nss_branch"]
    assert (told["images"], told["pseudo_labelled_crops"]) == (12, 2)
    assert told["centres"] == found.card.network.statistics == len(state["statistics.centres"])

    # The same, put together by hand.
    shown, labels, weights = [], [], []
    for name, mos in zip(rated.names, rated.mos, strict=True):
        image = eight_bits(
            resize_and_pad(read_image(photo_folder / name), model.card.preprocessing)
        )
        crops = list(model.crops(image.float() / 255))
        shown += crops
        labels += [mos] * len(crops)
        weights += [1.0] * len(crops)
    image = eight_bits(resize_and_pad(read_image(photo_folder / first), model.card.preprocessing))
    shown += [label.pixels(image, 48).float() / 255 for label in pseudo]
    labels += [60.0, 20.0]
    weights += [TEACHERS] * 2
    statistics = SceneStatistics()(torch.stack(shown))
    target = model.network.scale.to_standard(torch.tensor(labels))
    expected = fit_regressor(statistics, target, torch.tensor(weights), centres=500)
    with torch.no_grad():
        predicted = expected.predict(statistics)
        torch.testing.assert_close(
            found.network.statistics.predict(statistics), predicted, rtol=0, atol=0.01
        )
    assert np.corrcoef(predicted, target)[0, 1] > 0.6

    save_model(found, tmp_path / "model")
    crops = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        kept = load_model(tmp_path / "model").network(crops)
        torch.testing.assert_close(kept, found.network(crops), rtol=1e-6, atol=1e-5)
    assert found.card.network.statistics_weight == 0.5
    again = with_nss_branch(
        found, rated, photo_folder, centres=5, weight=0.3
    )  # in place of the first
    assert again.card.network.statistics == 5
    assert again.network.config.statistics_weight == 0.3


def test_mistakes(tiny_model_folder, rated, photo_folder):
    model = load_model(tiny_model_folder)
    with pytest.raises(TableError, match="no labels that differ"):
        with_nss_branch(model, RatedTable(rated.names, mos=np.ones(12)), photo_folder, centres=9)
    outside = [PseudoLabel(rated.names[0], "a", 9999, 0, "", 0, 1.0)]
    with pytest.raises(ImageError, match="lies outside"):
        with_nss_branch(model, rated, photo_folder, pseudo=outside, centres=9)
