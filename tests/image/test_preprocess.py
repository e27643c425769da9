import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from qfm_iqm.image.decode import in_eight_bits
from qfm_iqm.image.preprocess import (
    Preprocessing,
    covering_crops,
    grid_crops,
    grid_positions,
    resize_and_pad,
)

sides = st.integers(1, 400)
crops = st.integers(16, 96)


@given(height=sides, width=sides, size=crops)
def test_the_grid_covers_every_pixel_with_the_fewest_crops(height, width, size):
    height, width = max(height, size), max(width, size)
    seen = np.zeros((height, width), int)
    positions = grid_positions(height, width, size)
    for top, left in positions:
        window = seen[top : top + size, left : left + size]
        assert window.shape == (size, size)
        window += 1
    assert seen.min() >= 1
    assert len(set(positions)) == len(positions)
    # No cover is smaller: pixels `size` apart in both directions each need a crop.
    assert len(positions) == seen[::size, ::size].size


@given(length=sides, size=crops)
def test_crops_are_spread_evenly_from_edge_to_edge(length, size):
    length = max(length, size)
    starts = [left for _, left in grid_positions(size, length, size)]
    assert (starts[0], starts[-1]) == (0, length - size)
    gaps = np.diff(starts)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
    assert starts == sorted(starts)


def test_positions_go_row_by_row():
    assert grid_positions(32, 40, 16) == [(0, 0), (0, 12), (0, 24), (16, 0), (16, 12), (16, 24)]


def test_a_grid_smaller_than_a_crop_is_a_programmers_mistake():
    with pytest.raises(ValueError, match="shorter than the crop of 16: pad it first"):
        grid_positions(15, 40, 16)


@given(height=st.integers(1, 70), width=st.integers(1, 70), size=st.integers(16, 64))
def test_mirroring_is_numpys_symmetric_padding(height, width, size):
    image = np.random.default_rng(height * 71 + width).random((3, height, width), np.float32)
    padding = ((0, 0), (0, max(0, size - height)), (0, max(0, size - width)))
    fitted = resize_and_pad(image, Preprocessing(crop=size))
    np.testing.assert_array_equal(fitted, np.pad(image, padding, mode="symmetric"))


@given(height=sides, width=sides, side=st.integers(16, 200), size=crops)
def test_an_image_is_never_enlarged_and_keeps_its_aspect(height, width, side, size):
    image = np.random.default_rng(0).random((3, height, width), np.float32)
    fitted = resize_and_pad(image, Preprocessing(crop=size, shorter_side=side))
    if min(height, width) <= side:
        assert np.array_equal(fitted[:, :height, :width], image)  # its own pixels, then reflections
        expected = height, width
    else:
        scale = side / min(height, width)
        expected = round(height * scale), round(width * scale)
        assert min(expected) == side
    assert fitted.shape == (3, max(size, expected[0]), max(size, expected[1]))


def test_a_size_that_fits_is_the_same_array():
    image = np.zeros((3, 64, 70), np.float32)
    assert resize_and_pad(image, Preprocessing(crop=64, shorter_side=64)) is image


def test_reducing_is_antialiased_like_pillows_bicubic():
    # One-pixel stripes vanish if a reduction uses every pixel, and alias otherwise.
    stripes = np.zeros((3, 96, 120), np.float32)
    stripes[..., ::2] = 1
    reduced = resize_and_pad(stripes, Preprocessing(crop=16, shorter_side=32))
    assert np.abs(reduced[..., 2:-2] - 0.5).max() < 0.05
    noise = np.random.default_rng(0).integers(0, 256, (96, 120), np.uint8)
    pillow = Image.fromarray(noise).resize((40, 32), Image.Resampling.BICUBIC)
    gray = np.broadcast_to((noise / 255).astype(np.float32), (3, *noise.shape))
    ours = resize_and_pad(gray, Preprocessing(crop=16, shorter_side=32))
    assert np.abs(ours[0] * 255 - np.asarray(pillow, float)).max() < 1.5


def test_reducing_stays_in_range():
    edge = np.zeros((3, 90, 90), np.float32)
    edge[..., 45:] = 1
    reduced = resize_and_pad(edge, Preprocessing(crop=16, shorter_side=40))
    assert (reduced.min(), reduced.max()) == (0, 1)


def test_one_pixel_gives_one_crop_of_its_color():
    pixel = np.array([0.25, 0.5, 0.75], np.float32).reshape(3, 1, 1)
    (crop,) = grid_crops(resize_and_pad(pixel, Preprocessing(crop=224)), 224)
    assert np.array_equal(crop, np.broadcast_to(pixel, (3, 224, 224)))


@pytest.mark.parametrize("brighter", ["left", "right"])
def test_crops_are_views_of_the_image_at_the_grid_turned_to_one_side(brighter):
    image = np.arange(3 * 50 * 70).reshape(3, 50, 70)
    if brighter == "left":
        image = image.max() - image
    found = list(grid_crops(image, 32))
    tensors = list(grid_crops(torch.from_numpy(image), 32))
    assert len(found) == len(tensors) == math.ceil(50 / 32) * math.ceil(70 / 32)
    for crop, tensor, (top, left) in zip(found, tensors, grid_positions(50, 70, 32), strict=True):
        window = image[:, top : top + 32, left : left + 32]
        mirrored = left + 16 > 35 or (left + 16 == 35 and brighter == "right")
        assert np.array_equal(crop, window[..., ::-1] if mirrored else window)
        assert np.shares_memory(crop, image)
        assert np.array_equal(tensor.numpy(), crop)


@given(
    width=st.integers(20, 400) | st.sampled_from([20, 21, 22, 40, 41]), height=st.integers(20, 60)
)
def test_a_mirrored_image_has_the_same_crops(width, height):
    image = np.random.default_rng(width).integers(0, 256, (3, height, width), dtype=np.uint8)
    plain = {crop.tobytes() for crop in grid_crops(image, 20)}
    mirrored = {crop.tobytes() for crop in grid_crops(image[..., ::-1], 20)}
    rows, columns = math.ceil(height / 20), math.ceil(width / 20)
    assert len(plain) == rows * columns
    left = (width - 20) // 2
    middle = image[..., left : width - left].astype(int)
    as_bright = [  # no brighter half: either orientation is right
        middle[:, top : top + 20, :10].sum() == middle[:, top : top + 20, -10:].sum()
        for top, _ in grid_positions(height, 20, 20)
    ]
    assert len(plain - mirrored) <= (sum(as_bright) if columns % 2 else 0)


@pytest.mark.parametrize("kind", ["bytes", "floats", "tensor"])
def test_one_level_in_one_pixel_says_which_half_is_brighter(kind):
    """A difference of 1 decides; half of it, which no photo has, is rounding and does not."""
    image = np.full((3, 20, 20), 100, np.uint8)
    image[0, 5, 19] = 101
    given = {
        "bytes": image,
        "floats": image / np.float32(255),
        "tensor": torch.from_numpy(image) / 255,
    }[kind]
    (crop,) = grid_crops(given, 20)
    assert np.array_equal(np.asarray(crop), np.asarray(given)[..., ::-1])
    if kind != "bytes":
        given[0, 5, 19] = 100.4 / 255
        (crop,) = grid_crops(given, 20)
        assert np.array_equal(np.asarray(crop), np.asarray(given))


def test_crops_are_turned_alike_as_bytes_as_floats_and_in_batches():
    draw = np.random.default_rng(3)
    images = draw.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    images[::2, 0, 0, 0] = images[::2, 0, 0, -1]  # nearly equal halves: one level apart
    images[::2, ..., 8:] = images[::2, ..., 7::-1]
    images[::4, 1, 5, 12] ^= 1
    turned = np.stack([next(grid_crops(image, 16)) for image in images])
    floats = images.astype(np.float32) / 255
    for given_ in (images, floats):
        (batch,) = grid_crops(torch.from_numpy(given_), 16)
        assert np.allclose(batch.numpy() * (1 if given_ is images else 255), turned)
    for image, expected in zip(floats, turned, strict=True):
        assert np.allclose(next(grid_crops(image, 16)) * 255, expected)
    mirrored = (turned != images).any((1, 2, 3))
    assert 10 < mirrored.sum() < 30


@pytest.mark.parametrize(
    "wrong", [{"crop": 15}, {"crop": "224"}, {"crop": 224.5}, {"shorter_side": 8}, {"size": 224}]
)
def test_impossible_preprocessing_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Preprocessing(**wrong)


@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_a_squeeze_gives_its_size_whatever_the_aspect(height, width):
    image = np.zeros((3, height, width), np.float32)
    assert resize_and_pad(image, Preprocessing(crop=16, squeeze=(40, 24))).shape == (3, 40, 24)
    assert resize_and_pad(image, Preprocessing(crop=32, squeeze=(40, 24))).shape == (
        3,
        40,
        32,
    )  # reflected


def test_a_squeeze_is_pillows_bicubic():
    draw = np.random.default_rng(2)
    cells = draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC)
    expected = np.asarray(photo.resize((48, 64), Image.Resampling.BICUBIC))
    image = np.asarray(photo, np.float32).transpose(2, 0, 1) / 255
    found = resize_and_pad(image, Preprocessing(crop=16, squeeze=(64, 48))).transpose(1, 2, 0)
    np.testing.assert_allclose(found * 255, expected, atol=2)


def test_a_squeeze_comes_back_from_a_card():
    squeezed = Preprocessing(crop=16, squeeze=(40, 24))
    assert Preprocessing.model_validate(json.loads(squeezed.model_dump_json())) == squeezed
    for wrong in ((8, 24), (40, 24, 3), 40):
        with pytest.raises(ValidationError, match="squeeze"):
            Preprocessing(crop=16, squeeze=wrong)
    with pytest.raises(ValidationError, match="exclude each other"):
        Preprocessing(crop=16, squeeze=(40, 24), shorter_side=64)


TWICE = Preprocessing(crop=32, shorter_side=90, extra_scales=(64, 40))


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_an_image_is_cropped_at_each_extra_scale(kind):
    image = resize_and_pad(np.random.default_rng(0).random((3, 150, 230), np.float32), TWICE)
    if kind == "bytes":
        image = in_eight_bits(image)
    found = list(covering_crops(image, TWICE))
    expected = list(grid_crops(image, 32))
    height, width = image.shape[1:]
    whole = in_eight_bits(image) if kind == "floats" else image
    for side in (64, 40):  # by hand: reduce the resized image once more
        across, down = round(width * side / 90), round(height * side / 90)
        pixels = Image.fromarray(whole.transpose(1, 2, 0))
        for size in ((across, height), (across, down)):
            pixels = pixels.resize(size, Image.Resampling.BICUBIC)
        smaller = np.asarray(pixels).transpose(2, 0, 1)
        expected += grid_crops(smaller if kind == "bytes" else smaller / np.float32(255), 32)
    assert len(found) == len(expected) > 4 + 4 + 4
    assert {crop.dtype for crop in found} == {image.dtype}
    for crop, by_hand in zip(found, expected, strict=True):
        assert np.array_equal(crop, by_hand)


@pytest.mark.parametrize(("height", "width", "sizes"), [(40, 200, 1), (41, 90, 2), (300, 65, 3)])
def test_an_image_is_cropped_at_an_extra_scale_only_where_it_is_larger(height, width, sizes):
    image = resize_and_pad(np.zeros((3, height, width), np.float32), TWICE)
    expected = len(grid_positions(*image.shape[1:], 32))
    for side in [side for side in (64, 40) if min(height, width) > side]:
        scale = side / min(image.shape[1:])
        size = (max(side, round(image.shape[1] * scale)), max(side, round(image.shape[2] * scale)))
        expected += len(grid_positions(*size, 32))
    assert len(list(covering_crops(image, TWICE))) == expected
    assert sum(min(height, width) > side for side in (64, 40)) == sizes - 1


@pytest.mark.parametrize(
    "sides",
    [
        {"extra_scales": (40,)},
        {"shorter_side": 31, "extra_scales": ()},
        {"shorter_side": 90, "extra_scales": (90,)},
        {"shorter_side": 90, "extra_scales": (40, 64)},
        {"shorter_side": 90, "extra_scales": (64, 31)},
        {"squeeze": (90, 90), "extra_scales": (40,)},
    ],
)
def test_sizes_must_fall_to_the_crop_at_the_least(sides):
    with pytest.raises(ValidationError, match="extra_scales must fall"):
        Preprocessing(crop=32, **sides)
