"""Pseudo-labels: what a teacher says of crops, against the teacher wanted one crop at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.distill.teacher import (
    KINDS,
    PseudoLabel,
    PseudoLabelConfig,
    pseudo_label,
)
from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.image.distortions import LEVELS
from qfm_iqm.image.preprocess import Preprocessing, grid_positions
from qfm_iqm.image.preprocess_torch import distort_tensor
from qfm_iqm.model.card import LabelUnits, ModelCard
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.network import QualityNetwork

CROP, STD = 32, 10.0


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(4)
    network = QualityNetwork("test_vit", crop=CROP, label_mean=50.0, label_std=STD)
    card = ModelCard(name="teacher", network=network.config, preprocessing=Preprocessing(crop=CROP))
    return QualityModel(network, card)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """PNG files of odd sizes, one smaller than a crop; their pixels by name."""
    root = tmp_path_factory.mktemp("unlabelled")
    draw = np.random.default_rng(8)
    pixels = {}
    for name, (height, width) in {"a.png": (50, 81), "b.png": (32, 32), "c.png": (20, 40)}.items():
        cells = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        photo = cells.resize((width, height), Image.Resampling.BICUBIC)
        photo.save(root / name)
        pixels[name] = np.asarray(photo)
    return root, pixels


def answers_of(teacher, photos, *, workers=0, **options):
    root, pixels = photos
    images = [(name, f"content of {name}", root / name) for name in pixels]
    return list(pseudo_label([teacher], images, PseudoLabelConfig(**options), workers=workers))


def labels_of(teacher, photos, **options):
    return [labels for labels, _ in answers_of(teacher, photos, **options)]


def fitted(pixels):
    """A side shorter than a crop is continued by mirroring, edge included."""
    pad = [(0, max(0, CROP - side)) for side in pixels.shape[:2]]
    return np.pad(pixels, (*pad, (0, 0)), mode="symmetric")


@torch.inference_mode()
def scored_alone(teacher, pixels, label):
    """The teacher's own answer to one crop, cut with NumPy."""
    window = fitted(pixels)[label.top : label.top + CROP, label.left : label.left + CROP]
    crop = torch.tensor(window.transpose(2, 0, 1).copy()).float() / 255
    return teacher.eval().network(crop[None]).item()


def test_scores_are_the_teachers_own(teacher, photos):
    answers = labels_of(teacher, photos, extra_crops=3)
    assert [len(image) for image in answers] == [6 + 3, 1 + 3, 2 + 3]
    for (name, pixels), image in zip(photos[1].items(), answers, strict=True):
        height, width = fitted(pixels).shape[:2]
        places = [(label.top, label.left) for label in image]
        assert places[:-3] == grid_positions(height, width, CROP)
        for label in image:
            assert (label.name, label.content) == (name, f"content of {name}")
            assert (label.distortion, label.level) == ("", 0)
            assert 0 <= label.top <= height - CROP
            assert 0 <= label.left <= width - CROP
            assert label.score == pytest.approx(scored_alone(teacher, pixels, label), abs=1e-4)


def test_random_places_depend_on_the_seed_and_the_image_alone(teacher, photos):
    first, again, other = (labels_of(teacher, photos, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first[0] != other[0]
    assert first[0][:6] == other[0][:6]  # the grid
    assert [len(image) for image in labels_of(teacher, photos, extra_crops=0)] == [6, 1, 2]


def test_a_teacher_in_training_mode_is_put_into_evaluation(teacher, photos):
    teacher.train()
    labels_of(teacher, photos)
    assert not teacher.training


def degraded(label):
    return bool(label.distortion)


def sequences_of(image):
    """Runs of degraded labels from level 1 on."""
    sequences = []
    for label in filter(degraded, image):
        if label.level == 1:
            sequences.append([])
        sequences[-1].append(label)
    return sequences


@pytest.mark.parametrize("count", [1, 3])
def test_a_sequence_is_one_crop_at_rising_strength(teacher, photos, count):
    kinds = set()
    for seed in range(8):
        plain = labels_of(teacher, photos, seed=seed)
        for image, without in zip(
            labels_of(teacher, photos, seed=seed, degradation_sequences=count), plain, strict=True
        ):
            assert [label for label in image if not degraded(label)] == [
                replace(label, score=pytest.approx(label.score, abs=1e-4)) for label in without
            ]
            sequences = sequences_of(image)
            assert len(sequences) == count
            for sequence in sequences:
                assert [label.level for label in sequence] == [1, 2, 3, 4, 5]
                assert len({(label.distortion, label.top, label.left) for label in sequence}) == 1
                place = (sequence[0].top, sequence[0].left)
                assert place in {(label.top, label.left) for label in without}
                kinds.add(sequence[0].distortion)
    assert kinds <= set(KINDS)
    assert len(kinds) >= 4


@pytest.mark.parametrize("drop", [0.0, 0.01, 1.0])
def test_each_step_lowers_quality_by_at_least_drop(teacher, photos, drop):
    bound = free = 0
    for image in labels_of(teacher, photos, degradation_sequences=2, drop=drop, seed=2):
        pixels = torch.tensor(fitted(photos[1][image[0].name]).transpose(2, 0, 1).copy())
        for sequence in sequences_of(image):
            start = next(
                label
                for label in image
                if (label.top, label.left) == (sequence[0].top, sequence[0].left)
                and not degraded(label)
            )
            least = start.score
            for label in sequence:
                with torch.inference_mode():
                    crop = label.pixels(pixels, CROP)
                    own = teacher.network(crop[None].float() / 255).item()
                expected = min(own, least - drop * STD)
                assert label.score == pytest.approx(expected, abs=1e-3)
                bound, free = bound + (own > least - drop * STD), free + (own < least - drop * STD)
                least = label.score
    assert bound > 0
    assert free > 0 or drop == 1.0


def test_reading_processes_change_nothing(teacher, photos):
    wanted = {"degradation_sequences": 2, "grid": 1, "seed": 3}
    alone, helped = (answers_of(teacher, photos, workers=n, **wanted) for n in (0, 2))
    for (labels, tokens), (same, same_tokens) in zip(alone, helped, strict=True):
        # Blurred and noisy pixels may round otherwise with another number of threads.
        assert same == [replace(x, score=pytest.approx(x.score, abs=1e-3)) for x in labels]
        torch.testing.assert_close(tokens, same_tokens, atol=1e-2, rtol=1e-2)


def test_pixels_are_the_crop_degraded_as_said():
    image = torch.randint(0, 256, (3, 60, 50), dtype=torch.uint8)
    window = image[:, 7:39, 11:43]
    plain = PseudoLabel("n.png", "c", 7, 11, "", 0, 1.0)
    assert torch.equal(plain.pixels(image, CROP), window)
    for kind in LEVELS:
        found = replace(plain, distortion=kind, level=4).pixels(image, CROP)
        assert found.dtype == torch.uint8
        if kind != "white noise":
            expected = distort_tensor(window / 255, kind, 4)
            assert (found / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_noise_is_a_crops_own_and_always_the_same():
    image = torch.full((3, 60, 60), 128, dtype=torch.uint8)
    label = PseudoLabel("n.png", "c", 7, 11, "white noise", 3, 1.0)
    first = label.pixels(image, CROP)
    assert torch.equal(first, label.pixels(image, CROP))
    for other in (replace(label, top=8), replace(label, left=12), replace(label, name="m.png")):
        assert not torch.equal(first, other.pixels(image, CROP))


@pytest.mark.parametrize("kind", ["", *LEVELS])
@pytest.mark.parametrize(("top", "left"), [(29, 0), (0, 19), (90, 90), (-1, 0), (0, -40)])
def test_a_place_outside_is_an_image_error(kind, top, left):
    label = PseudoLabel("n.png", "c", top, left, kind, 1 if kind else 0, 1.0)
    with pytest.raises(ImageError, match=r"lies outside of n\.png"):
        label.pixels(torch.zeros(3, 60, 50, dtype=torch.uint8), CROP)


def test_an_image_that_cannot_be_read_is_refused_by_name(teacher, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    images = [("broken.jpg", "c", tmp_path / "broken.jpg")]
    said = []
    for workers in (0, 1):
        with pytest.raises(ImageError, match=r"broken\.jpg") as caught:
            list(pseudo_label([teacher], images, workers=workers))
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_tokens_are_the_teachers_own_averaged_to_the_grid(teacher, photos):
    options = {"extra_crops": 1, "degradation_sequences": 1}
    for (name, pixels), (labels, tokens_KND) in zip(
        photos[1].items(), answers_of(teacher, photos, grid=1, **options), strict=True
    ):
        assert tokens_KND.shape == (len(labels), 1, 64), name
        image = torch.tensor(fitted(pixels).transpose(2, 0, 1).copy())
        for label, tokens_ND in zip(labels, tokens_KND, strict=True):
            with torch.inference_mode():
                crop = label.pixels(image, CROP)[None].float() / 255
                own_ND = teacher.network.encode(crop)[0, 1:]
            torch.testing.assert_close(tokens_ND[0], own_ND.mean(0), atol=1e-4, rtol=1e-4)
    assert all(tokens is None for _, tokens in answers_of(teacher, photos))
    with pytest.raises(TableError, match="4 tokens cannot be averaged to 3 x 3"):
        answers_of(teacher, photos, grid=3)


def test_a_score_is_the_mean_of_the_teachers(teacher, photos):
    torch.manual_seed(7)
    network = QualityNetwork("test_vit", crop=CROP, label_mean=50.0, label_std=STD)
    other = QualityModel(network, teacher.card)
    root, pixels = photos
    images = [(name, name, root / name) for name in pixels]
    config = PseudoLabelConfig(extra_crops=2, grid=1, seed=3)
    both, one, two = (
        list(pseudo_label(teachers, images, config))
        for teachers in ([teacher, other], [teacher], [other])
    )
    for (mean, tokens), (first, own), (second, _) in zip(both, one, two, strict=True):
        assert torch.equal(tokens, own)  # the first teacher's
        for label, a, b in zip(mean, first, second, strict=True):
            assert (label.top, label.left) == (a.top, a.left) == (b.top, b.left)
            assert a.score != b.score
            assert label.score == pytest.approx((a.score + b.score) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("update", "what"),
    [
        ({"preprocessing": Preprocessing(crop=CROP, shorter_side=64)}, "crops"),
        ({"label": LabelUnits(name="DMOS")}, "labels"),
    ],
)
def test_teachers_whose_scores_have_no_mean_are_refused(teacher, photos, update, what):
    other = QualityModel(teacher.network, teacher.card.model_copy(update=update))
    root, pixels = photos
    images = [(name, name, root / name) for name in pixels]
    with pytest.raises(TableError, match=f"score other {what}"):
        list(pseudo_label([teacher, other], images))
