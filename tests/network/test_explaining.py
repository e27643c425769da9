"""Quality maps: against slow loops, and on real degraded photos."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch

from qfm_iqm import QualityMap, load_model, read_image
from qfm_iqm.errors import ModelError
from qfm_iqm.image.cropping import grid_positions
from qfm_iqm.image.distorting import distort
from qfm_iqm.network.explaining import assemble, local_answers


@pytest.fixture(scope="module")
def models(build_model):
    return {
        "class token": build_model("test_vit", crop=80),  # 5 x 5 patches
        "none": build_model("test_resnet", crop=160),
    }


@pytest.mark.parametrize("kind", ["class token", "none"])
@pytest.mark.parametrize("window", [1, 2, 3])
@torch.inference_mode()
def test_each_patch_is_judged_from_the_window_around_it(models, kind, window):
    model = models[kind]
    crops = torch.rand(2, 3, model.card.network.crop, model.card.network.crop)
    tokens = model.network.encode(crops)
    side = round((tokens.shape[1] - 1) ** 0.5)
    assert side >= 4
    found = local_answers(model.network, tokens, window)
    for crop in range(2):
        grid = tokens[crop, 1:].reshape(side, side, -1)
        for row in range(side):
            for column in range(side):
                top = min(max(row - window // 2, 0), side - window)
                left = min(max(column - window // 2, 0), side - window)
                near = grid[top : top + window, left : left + window].flatten(0, 1)
                first = tokens[crop, :1] if kind == "class token" else near.mean(0, keepdim=True)
                expected = model.network.decode(torch.cat([first, near])[None]).item()
                assert found[crop, row, column].item() == pytest.approx(expected, abs=1e-3)


@torch.inference_mode()
def test_a_window_as_large_as_the_crop_gives_its_score_everywhere(models):
    model = models["none"]
    tokens = model.network.encode(torch.rand(3, 3, 160, 160))
    found = local_answers(model.network, tokens, 99)
    scores = model.network.decode(tokens)
    assert torch.allclose(found, scores[:, None, None].expand_as(found), atol=1e-3)


def test_tokens_that_are_no_square_are_refused(models):
    network = models["none"].network
    with pytest.raises(ModelError, match="square grid of tokens, and the backbone gives 6"):
        local_answers(network, torch.rand(1, 7, network.encoder.width))


@pytest.mark.parametrize("size", [(48, 48), (100, 70), (61, 53), (20, 70)])
def test_a_map_is_the_mean_over_all_crops_that_show_a_pixel(size):
    crop, side = 48, 3
    positions = grid_positions(max(size[0], crop), max(size[1], crop), crop)
    answers = np.random.default_rng(3).normal(size=(len(positions), side, side))
    total = np.zeros((200, 200))
    count = np.zeros((200, 200))
    for values, (top, left) in zip(answers, positions, strict=True):
        total[top : top + crop, left : left + crop] += np.kron(values, np.ones((16, 16)))
        count[top : top + crop, left : left + crop] += 1
    found = assemble(answers, positions, crop, size)
    assert found.shape == tuple(max(1, round(length / 16)) for length in size)
    # Cells need not end between pixels: look at each pixel in parts.
    parts = [20 * np.arange(length * n) // (20 * n) for length, n in zip(size, (9, 5), strict=True)]
    fine, shown = total[np.ix_(*parts)], count[np.ix_(*parts)]
    edges = [
        np.linspace(0, len(part), cells + 1) for part, cells in zip(parts, found.shape, strict=True)
    ]
    for row, column in np.ndindex(found.shape):
        box = tuple(
            np.clip(np.minimum(np.arange(len(part)) + 1, edge[i + 1])
                    - np.maximum(np.arange(len(part)), edge[i]), 0, None)
            for part, edge, i in zip(parts, edges, (row, column), strict=True)
        )  # fmt: skip
        expected = (box[0] @ fine @ box[1]) / (box[0] @ shown @ box[1])
        assert found[row, column] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("kind", "patch"), [("class token", 16), ("none", 32)])
@pytest.mark.parametrize("size", [(200, 333), (40, 90), (1, 1)])
def test_a_map_covers_the_image_and_its_mean_is_the_score(models, kind, patch, size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    found = models[kind].explain(image)
    assert isinstance(found, QualityMap)
    assert found.values.dtype == np.float32
    assert found.values.shape == tuple(max(1, round(length / patch)) for length in size)
    assert (found.height, found.width) == size
    assert found.score == pytest.approx(models[kind].score(image).value, abs=1e-6)
    assert found.values.mean() == pytest.approx(found.score, rel=1e-5)
    again = models[kind].explain(image, batch_size=1)
    assert np.allclose(again.values, found.values, atol=1e-3)


def test_what_is_no_image_is_refused(models):
    with pytest.raises(ValueError, match="an RGB tensor"):
        models["none"].explain(torch.rand(1, 20, 20))


@pytest.mark.parametrize("kind", ["blur", "resample"])
def test_the_shipped_model_finds_the_degraded_quadrant_of_a_photo(kind):
    model = load_model()
    image = read_image(Path(skimage.__file__).parent / "data" / "coffee.png")
    middle = [length // 2 for length in image.shape[1:]]
    worse = distort(image, kind, 4)
    for quadrant in range(4):
        rows, columns = (
            slice(half, None) if far else slice(half)
            for half, far in zip(middle, divmod(quadrant, 2), strict=True)
        )
        degraded = image.clone()
        degraded[:, rows, columns] = worse[:, rows, columns]
        values = model.explain(degraded).values
        top, bottom = np.array_split(values, 2, axis=0)
        means = [q.mean() for half in (top, bottom) for q in np.array_split(half, 2, axis=1)]
        assert int(np.argmin(means)) == quadrant
