"""Quality maps: against slow loops, and on real degraded photos."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from scipy.interpolate import RegularGridInterpolator

from qfm_iqm import QualityMap, load_model, read_image
from qfm_iqm.image.preprocess_torch import distort_tensor, resize_and_pad
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.quality_map import cells, regions
from qfm_iqm.model.reference import Curve


@pytest.fixture(scope="module")
def models(build_model):
    return {
        "class token": build_model("test_vit", crop=80),  # 5 x 5 patches
        "none": build_model("test_resnet", crop=160),
    }


@pytest.mark.parametrize("size", [(1, 1), (24, 24), (24, 25), (48, 48), (100, 333), (47, 30)])
def test_regions_cover_the_image_and_overlap_by_half(size):
    found = regions(*size, crop=48)
    for starts, length in zip((found.tops, found.lefts), size, strict=True):
        assert starts[0] == 0
        assert starts[-1] == max(0, length - found.side)
        assert all(1 <= b - a <= found.side / 2 + 1 for a, b in pairwise(starts))


@pytest.mark.parametrize("crop", [48, 47])
def test_a_region_is_continued_to_a_crop_by_mirroring(crop):
    image = torch.rand(3, 60, 70)
    found = regions(60, 70, crop)
    crops = list(found.crops(image, crop))
    assert len(crops) == len(found.tops) * len(found.lefts)
    for number, one in enumerate(crops):
        top = found.tops[number // len(found.lefts)]
        left = found.lefts[number % len(found.lefts)]
        part = image[:, top : top + found.side, left : left + found.side].numpy()
        mirrored = np.pad(part, ((0, 0), (0, found.side), (0, found.side)), mode="symmetric")
        assert np.array_equal(one.numpy(), mirrored[:, :crop, :crop])


def test_between_the_middles_of_regions_the_map_is_linear():
    found = regions(130, 96, crop=48)
    values = np.random.default_rng(0).normal(size=(len(found.tops), len(found.lefts)))
    spread = found.spread(values, (130, 96), (8, 6))
    rows, columns = np.array(found.tops) + 12.0, np.array(found.lefts) + 12.0
    reference = RegularGridInterpolator((rows, columns), values)
    for row, column in np.ndindex(8, 6):
        place = ((row + 0.5) * 130 / 8, (column + 0.5) * 16)
        inside = np.clip(place, (rows[0], columns[0]), (rows[-1], columns[-1]))
        assert spread[row, column] == pytest.approx(reference(inside)[0])


def test_a_map_is_made_of_the_scores_of_its_regions(models):
    model = models["class token"]
    image = torch.rand(3, 80, 200, generator=torch.Generator().manual_seed(3))
    found = regions(80, 200, 80)
    with torch.inference_mode():
        scores = [model.network(one[None]).item() for one in found.crops(image, 80)]
    spread = found.spread(np.array(scores).reshape(len(found.tops), -1), (80, 200), (5, 12))
    expected = spread - spread.mean() + model.score(image).value
    assert np.allclose(model.explain(image).values, expected, atol=1e-3)


@pytest.mark.parametrize(("kind", "patch"), [("class token", 16), ("none", 32)])
@pytest.mark.parametrize("size", [(200, 333), (40, 90), (1, 1)])
def test_a_map_covers_the_image_and_its_mean_is_the_score(models, kind, patch, size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    model = models[kind]
    assert model.network.encoder.patches == model.card.network.crop // patch
    found = model.explain(image)
    assert isinstance(found, QualityMap)
    assert found.values.dtype == np.float32
    assert found.values.shape == tuple(max(1, round(length / patch)) for length in size)
    assert (found.height, found.width) == size
    assert found.score == pytest.approx(model.score(image).value, abs=1e-6)
    assert found.values.mean() == pytest.approx(found.score, rel=1e-5)
    again = model.explain(image, batch_size=1)
    assert np.allclose(again.values, found.values, atol=1e-3)


def test_cells_are_as_large_as_patches_or_nearly():
    assert [cells(n, 224, 14) for n in (1, 16, 24, 384, 576, 577)] == [1, 1, 2, 24, 36, 36]


def test_a_map_is_on_the_scale_of_the_score(build_model):
    model = build_model(crop=48)
    image = torch.rand(3, 100, 100)
    plain = model.explain(image)
    model.card.label = LabelUnits(minimum=0, maximum=200, higher_is_better=False)
    shown = model.explain(image)
    assert np.allclose(shown.values, 100 - plain.values / 2, atol=1e-3)
    assert shown.score == pytest.approx(100 - plain.score / 2)
    model.card.label = LabelUnits()
    model.card.calibration = Curve(x=(-100, 300), y=(0, 4))
    assert np.allclose(model.explain(image).values, (plain.values + 100) / 100, atol=1e-4)


def test_what_is_no_image_is_refused(models):
    with pytest.raises(ValueError, match="an RGB tensor"):
        models["none"].explain(torch.rand(1, 20, 20))


@pytest.mark.parametrize("kind", ["gaussian blur", "resample"])
def test_the_shipped_model_finds_the_degraded_quadrant_of_a_photo(kind):
    model = load_model()
    image = read_image(Path(skimage.__file__).parent / "data" / "coffee.png")
    image = resize_and_pad(image, model.card.preprocessing)
    middle = [length // 2 for length in image.shape[1:]]
    worse = distort_tensor(image, kind, 4)

    def means(image):
        top, bottom = np.array_split(model.explain(image).values, 2, axis=0)
        return [q.mean() for half in (top, bottom) for q in np.array_split(half, 2, axis=1)]

    before = means(image)
    for quadrant in range(4):
        rows, columns = (
            slice(half, None) if far else slice(half)
            for half, far in zip(middle, divmod(quadrant, 2), strict=True)
        )
        degraded = image.clone()
        degraded[:, rows, columns] = worse[:, rows, columns]
        assert int(np.argmin(np.subtract(means(degraded), before))) == quadrant
