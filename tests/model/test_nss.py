"""Scene statistics against a slow computation, pixel by pixel, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.image.preprocess_torch import distort_tensor
from qfm_iqm.model.network import QualityNetwork
from qfm_iqm.model.nss import NSSRegressor, SceneStatistics

WINDOW = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81  # two averages of three by three
ROUNDING = 1 / 255 / math.sqrt(12)  # deviation of what rounding to 8 bits does


def log(value):
    return math.log(value + 1e-4)


def slow_moments(plane):
    """Of one channel at one scale, as the docstring words them."""
    height, width = plane.shape
    padded = np.pad(plane, 2, mode="edge")
    normal, local, deviations = np.zeros_like(plane), np.zeros_like(plane), np.zeros_like(plane)
    for y in range(height):
        for x in range(width):
            part = padded[y : y + 5, x : x + 5]
            mean = (WINDOW * part).sum()
            deviation = math.hypot(math.sqrt((WINDOW * (part - mean) ** 2).sum()), ROUNDING)
            normal[y, x] = (plane[y, x] - mean) / (deviation + 1 / 255)
            local[y, x] = math.log(255 * deviation + 1)
            deviations[y, x] = 255 * deviation
    neighbours = [
        np.array(
            [
                normal[y, x] * normal[y + down, x + right]
                for y in range(height - down)
                for x in range(width)
                if 0 <= x + right < width
            ]
        )
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    around = local - local.mean()
    spread = np.mean(around**2)
    skew = np.mean(around**3) / (spread + 0.01) ** 1.5
    plain = [local.mean(), math.sqrt(spread + 1e-6), skew]
    plain += [products.mean() for products in neighbours]
    moments = [np.abs(normal), normal**2, normal**4, deviations]
    for products in neighbours:
        positive, negative = np.maximum(products, 0), np.minimum(products, 0)
        moments += [np.abs(products), positive**2, negative**2]
    return [*plain, *(log(np.mean(moment)) for moment in moments)]


def halved(plane):
    height, width = (side // 2 for side in plane.shape)
    return plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))


def slow_statistics(crop):
    red, green, blue = crop.double().numpy()
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    size, edge = len(grey), len(grey) // 7
    full = slow_moments(grey[edge : size - edge, edge : size - edge])
    planes = [halved(plane) for plane in (grey, red - green, (red + green) / 2 - blue)]
    found = [plane.mean() for plane in planes] + [log(plane.var()) for plane in planes] + full
    for scale in range(2):
        planes = planes if scale == 0 else [halved(plane) for plane in planes]
        for plane in planes:
            found += slow_moments(plane)
    return found


@pytest.fixture(scope="module")
def photo():
    cat = pytest.importorskip("skimage").data.chelsea()
    return torch.tensor(cat).permute(2, 0, 1) / 255


@pytest.mark.parametrize("size", [16, 37, 64])
def test_they_are_what_a_slow_computation_gives(photo, size):
    crop = photo[:, :size, :size]
    found = SceneStatistics()(crop[None])[0]
    assert found.shape == (SceneStatistics.count,)
    np.testing.assert_allclose(found, slow_statistics(crop), rtol=2e-3, atol=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 33]), st.floats(0, 1))
def test_a_crops_statistics_are_finite_and_its_own(seed, size, contrast):
    """Noise of any strength down to a flat colour, alone and among others."""
    draw = torch.Generator().manual_seed(seed)
    crops = torch.rand(3, 3, size, size, generator=draw)
    crops[1:2] = 0.5 + contrast * (crops[1:2] - 0.5)
    crops[2] = torch.rand(3, 1, 1, generator=draw).expand(3, size, size)
    together = SceneStatistics()(crops)
    assert together.isfinite().all()
    for crop, found in zip(crops, together, strict=True):
        torch.testing.assert_close(SceneStatistics()(crop[None])[0], found, rtol=1e-4, atol=1e-4)


def test_a_mirrored_crop_differs_in_the_two_diagonals_alone(photo):
    crop = photo[None, :, :48, :48]
    own, mirrored = SceneStatistics()(crop)[0], SceneStatistics()(crop.flip(-1))[0]
    planes = own[6:].reshape(7, 23), mirrored[6:].reshape(7, 23)
    exchanged = planes[1][:, [*range(5), 6, 5, *range(7, 17), 20, 21, 22, 17, 18, 19]]
    torch.testing.assert_close(planes[0], exchanged, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(own[:6], mirrored[:6])


@pytest.mark.parametrize("kind", ["gaussian blur", "white noise", "jpeg", "low contrast"])
def test_each_degradation_moves_them_further_at_each_strength(photo, kind):
    crop = photo[:, :224, :224]
    measure = SceneStatistics()
    moved = [
        (measure(distort_tensor(crop, kind, level)[None]) - measure(crop[None])).abs().mean().item()
        for level in range(1, 6)
    ]
    assert moved == sorted(moved)
    assert moved[0] > 0.02


def test_an_opinion_is_a_kernel_regression():
    draw = np.random.default_rng(0)
    count = SceneStatistics.count
    opinion = NSSRegressor(7)
    for name, shape in (("mean", count), ("centres", (7, count)), ("weights", 7), ("bias", ())):
        setattr(opinion, name, torch.tensor(draw.normal(size=shape)).float())
    opinion.deviation = torch.tensor(draw.uniform(0.5, 2, count)).float()
    statistics = draw.normal(size=(4, count)) * [[1], [1], [3], [1000]]
    expected = []
    for row in statistics:
        quality = float(opinion.bias)
        for centre, weight in zip(opinion.centres.numpy(), opinion.weights.numpy(), strict=True):
            z = (row - opinion.mean.numpy()) / opinion.deviation.numpy()
            quality += weight * math.exp(-2 * ((z.clip(-5, 5) - centre) ** 2).sum() / count)
        expected.append(quality)
    found = opinion.predict(torch.tensor(statistics).float())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    crops = torch.rand(2, 3, 20, 20)
    torch.testing.assert_close(opinion(crops), opinion.predict(opinion.measure(crops)))


@pytest.mark.parametrize("weight", [None, 0.2])
def test_a_quality_is_the_weighted_mean_of_both_opinions(weight):
    torch.manual_seed(0)
    asked = {} if weight is None else {"statistics_weight": weight}
    network = QualityNetwork(
        "test_vit", crop=32, statistics=8, label_mean=50.0, label_std=8.0, **asked
    ).eval()
    weight = weight or 0.5
    network.statistics.bias += 1
    crops = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        decoded = network.decode(network.encode(crops))
        second = 50 + 8 * network.statistics(crops)
        torch.testing.assert_close(network(crops), decoded + weight * (second - decoded))
        assert network.opinions(crops).shape == (3, 2)
        assert (second - decoded).abs().min() > 0.01
    plain = QualityNetwork("test_vit", crop=32)
    assert plain.opinions(crops).shape == (3, 1)
