"""The measures of tiles and whole photos against slow references."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cause_network import (
    _ENDS,
    _STEPS,
    CauseSeverities,
    Ensemble,
    Readers,
    TileMeasures,
    WholeMeasures,
    _differences,
    _histogram,
)

DRAW = np.random.default_rng(0)
TILES = torch.from_numpy(DRAW.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
WHOLES = torch.from_numpy(DRAW.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))


def test_a_histogram_counts_each_value_for_the_levels_around_it():
    values = torch.rand(3, 2, 500)
    for bins in (2, 10, 20):
        centers = torch.linspace(0, 1, bins)
        near = (1 - (values[..., None] - centers).abs() * (bins - 1)).clamp(min=0)
        expected = (near.mean(2) + 1e-4).sqrt().flatten(1)
        assert _histogram(values, bins) == pytest.approx(expected, abs=2e-3)


def test_half_size_is_measured_as_if_it_were_averaged_first():
    measures = TileMeasures()
    luma = torch.rand(2, 1, 64, 64)
    expected = functional.conv2d(functional.avg_pool2d(luma, 2), measures.basis, stride=8)
    found = functional.conv2d(luma, measures.half_basis, stride=16)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("value", [0, 255])
def test_measures_of_anything_are_finite(value):
    for tiles, wholes in ((TILES, WHOLES), (TILES * 0 + value, WHOLES * 0 + value)):
        assert TileMeasures()(tiles).isfinite().all()
        assert WholeMeasures()(wholes).isfinite().all()


def test_tiles_may_come_in_any_order():
    tile, whole = TileMeasures(), WholeMeasures()
    readers = Readers(tile(TILES).shape[1], whole(WHOLES).shape[1])
    network = CauseSeverities([readers]).eval()
    tiles = TILES.unflatten(0, (2, 3))
    severities = network(tiles, WHOLES)
    assert severities.shape == (2, 6)
    assert (severities >= 0).all()
    assert torch.allclose(network(tiles[:, [2, 0, 1]], WHOLES), severities, atol=1e-5)


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_edges_of_blocks_stand_out_at_any_phase(shift):
    blocks = torch.from_numpy(DRAW.normal(120, 30, (1, 1, 9, 9)).astype(np.float32))
    planes = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.from_numpy(DRAW.normal(0, 2, (1, 1, 64, 64)).astype(np.float32))
    stands_out = _differences(planes[..., shift : shift + 64, shift : shift + 64] + noise)
    nothing = _differences(noise)
    after_steps = len(_STEPS)
    assert stands_out[0, after_steps] > 0.5
    assert nothing[0, after_steps] < 0.2


def test_an_ensemble_is_the_mean_of_its_members():
    members = [Readers(9, 5).eval() for _ in range(3)]
    tiles, wholes = torch.randn(2, 4, 9), torch.randn(2, 5)
    expected = torch.stack([member(tiles, wholes)[0] for member in members]).mean(0)
    found, _ = Ensemble(members).eval()(tiles, wholes)
    assert torch.allclose(found, expected, atol=1e-4)


def test_directions_and_color_planes_are_measured_separately():
    """What is computed together is what each tile, direction and plane gives alone."""
    measures = TileMeasures()
    turned = TILES.transpose(1, 2)
    together, other = measures(TILES), measures(turned)
    assert torch.allclose(measures(TILES[2:3]), together[2:3], atol=1e-5)
    lines = _differences(torch.rand(1, 3, 64, 64)).shape[1]
    start = together.shape[1] - 3 - 4 - 4 * len(_ENDS) - 2 * lines
    rows, columns = slice(start, start + lines), slice(start + lines, start + 2 * lines)
    assert torch.allclose(together[:, rows], other[:, columns], atol=1e-5)
    assert not torch.allclose(together[:, rows], other[:, rows], atol=1e-2)
