"""Pairs to be ranked: the loss against a slow loop, and what a pair is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.image.decode import read_image
from qfm_iqm.image.distortions import DISTORTIONS, distort
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import resize_and_pad
from qfm_iqm.training.ranking import ranked_pair, ranking

PREPROCESSING = Preprocessing(crop=32, shorter_side=48)
answers = st.floats(-3, 3, width=32)


@given(
    pairs=st.lists(st.tuples(answers, answers), min_size=1, max_size=6),
    others=st.lists(answers, max_size=4),
    margin=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_the_loss_is_the_mean_shortfall_of_the_pairs(pairs, others, margin):
    quality, worse, expected = list(others), [False] * len(others), []
    for better, lower in pairs:
        quality += [better, lower]
        worse += [False, True]
        expected.append(max(0.0, lower - better + margin))
    found = ranking(torch.tensor(quality), torch.tensor(worse), margin=margin)
    assert found.item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_its_gradient_pulls_a_pair_apart_until_the_margin():
    quality = torch.tensor([0.0, 0.1, 5.0, 1.0], requires_grad=True)
    ranking(quality, torch.tensor([False, True, False, True]), margin=0.5).backward()
    assert quality.grad.tolist() == [-0.5, 0.5, 0.0, 0.0]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranked") / "photo.png"
    draw = np.random.default_rng(2)
    cells = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    cells.resize((120, 90), Image.Resampling.BICUBIC).save(path)
    return path


def windows(image_CHW):
    """All crops of an image, by place."""
    pixels = image_CHW.mul(255).round().to(torch.uint8)
    height, width = pixels.shape[-2:]
    return {
        (top, left): pixels[:, top : top + 32, left : left + 32]
        for top in range(height - 31)
        for left in range(width - 31)
    }


def test_a_pair_is_one_place_at_adjacent_strengths_degraded_before_fitting(photo):
    whole = read_image(photo)
    clean = windows(resize_and_pad(whole, PREPROCESSING))
    crops = {
        kind: [clean, *(
            windows(resize_and_pad(distort(whole, kind, level), PREPROCESSING))
            for level in range(1, 6)
        )]
        for kind in set(DISTORTIONS) - {"noise"}
    }  # fmt: skip
    kinds, levels, places = set(), set(), set()
    for seed in range(40):
        pair = ranked_pair(photo, PREPROCESSING, np.random.default_rng(seed))
        again = ranked_pair(photo, PREPROCESSING, np.random.default_rng(seed))
        assert all(map(torch.equal, pair, again))
        for kind, strengths in crops.items():
            for level, (better, worse) in enumerate(itertools.pairwise(strengths)):
                for place, crop in better.items():
                    if torch.equal(crop, pair[0]) and torch.equal(worse[place], pair[1]):
                        kinds.add(kind)
                        levels.add(level)
                        places.add(place)
    assert kinds == set(DISTORTIONS) - {"noise"}
    assert levels == {0, 1, 2, 3, 4}
    assert len(places) > 20


def test_both_crops_of_a_noisy_pair_have_one_pattern(tmp_path):
    Image.new("RGB", (48, 48), (128, 128, 128)).save(tmp_path / "grey.png")
    found = 0
    for seed in range(60):
        better, worse = (
            crop.float() - 128
            for crop in ranked_pair(
                tmp_path / "grey.png", PREPROCESSING, np.random.default_rng(seed)
            )
        )
        if better.std() > 2:  # a grey photo changes by noise alone
            assert worse.std() > better.std()
            together = torch.corrcoef(torch.stack([better.flatten(), worse.flatten()]))[0, 1]
            assert together > 0.95
            found += 1
    assert found
