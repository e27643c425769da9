import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from qfm_iqm.image import preprocess as cropping
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import (
    OVERSHOOT,
    checked_pixels,
    covering_crops,
    resize_and_pad,
    resized,
)

sides = st.integers(1, 120)


@given(
    height=sides,
    width=sides,
    preprocessing=st.sampled_from(
        [
            Preprocessing(crop=24, shorter_side=32),
            Preprocessing(crop=24),
            Preprocessing(crop=16, squeeze=(40, 24)),
        ]
    ),
)
def test_one_image_is_resized_as_an_array_to_the_bit(height, width, preprocessing):
    image = torch.rand(3, height, width)
    expected = cropping.resize_and_pad(image.numpy(), preprocessing)
    assert torch.equal(resize_and_pad(image, preprocessing), torch.from_numpy(expected))


@pytest.mark.parametrize(("height", "width"), [(90, 64), (41, 300), (64, 33)])
def test_reducing_is_torchs_antialiased_interpolation(height, width):
    image = torch.randint(64, 192, (3, height, width)) / 255  # no overshoot to clip
    found = resize_and_pad(image, Preprocessing(crop=16, squeeze=(32, 40)))
    expected = functional.interpolate(image[None], (32, 40), mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(found, expected.clamp(0, 1), rtol=0, atol=2 / 255)
    assert (found - expected.clamp(0, 1)).abs().mean() < 0.5 / 255
    watched = resize_and_pad(image.requires_grad_(), Preprocessing(crop=16, squeeze=(32, 40)))
    torch.testing.assert_close(watched, expected.clamp(0, 1), rtol=0, atol=1e-6)


def test_a_size_that_fits_is_the_same_tensor():
    image = torch.rand(3, 64, 70)
    assert resize_and_pad(image, Preprocessing(crop=64, shorter_side=64)) is image


@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_a_batch_is_resized_as_its_images(height, width):
    batch = torch.rand(2, 3, height, width)
    preprocessing = Preprocessing(crop=24, shorter_side=32)
    together = resize_and_pad(batch, preprocessing)
    for image, fitted in zip(batch, together, strict=True):
        assert torch.equal(resize_and_pad(image, preprocessing), fitted)


def test_gradients_reach_every_pixel_of_a_small_image():
    image = torch.rand(3, 5, 9, requires_grad=True)
    resize_and_pad(image, Preprocessing(crop=16)).sum().backward()
    assert (image.grad >= 1).all()


@given(height=st.integers(20, 200), width=st.integers(20, 200), whole=st.booleans())
def test_crops_are_those_of_the_array_at_every_size(height, width, whole):
    preprocessing = Preprocessing(crop=24, shorter_side=60, extra_scales=(40, 30))
    image = resize_and_pad(torch.rand(3, height, width), preprocessing)
    image = (image * 255).round().to(torch.uint8) if whole else image
    found = list(covering_crops(image, preprocessing))
    expected = list(cropping.covering_crops(image.numpy(), preprocessing))
    batch = list(covering_crops(torch.stack([image, image.flip(-1)]), preprocessing))
    for crop, both, array in zip(found, batch, expected, strict=True):
        assert torch.equal(crop, torch.from_numpy(array.copy()))
        assert torch.equal(both[0], crop)


def test_gradients_come_from_every_size():
    preprocessing = Preprocessing(crop=16, shorter_side=48, extra_scales=(24,))
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(3, 48, 48, generator=draw).requires_grad_()
    crops = list(covering_crops(image, preprocessing))
    assert len(crops) == 9 + 4
    sum(crop.sum() for crop in crops[9:]).backward()
    assert (image.grad > 0).all()
    smaller = resized(image.detach(), (24, 24))
    torch.testing.assert_close(crops[9].detach(), smaller[:, :16, :16], rtol=0, atol=2 / 255)


def checked(pixels):
    return checked_pixels(pixels, "it", "an image", dimensions=3)


@given(low=st.floats(-2, 1), high=st.floats(0, 3))
def test_values_are_clamped_or_refused(low, high):
    low, high = sorted((low, high))
    pixels = torch.linspace(low, high, 3 * 4 * 5).reshape(3, 4, 5)
    if pixels.min() >= -OVERSHOOT and pixels.max() <= 1 + OVERSHOOT:
        assert torch.equal(checked(pixels), pixels.clamp(0, 1))
    else:
        with pytest.raises(ValueError, match="it must hold values from 0 to 1, not from"):
            checked(pixels)


@pytest.mark.parametrize("scale", [0.3, 0.7, 1.5])
def test_what_bicubic_resizing_overshoots_by_is_taken(scale):
    draw = torch.Generator().manual_seed(0)
    edges = (torch.rand(1, 3, 8, 8, generator=draw) > 0.5).float()
    edges = edges.repeat_interleave(9, 2).repeat_interleave(9, 3)
    pixels = functional.interpolate(edges, scale_factor=scale, mode="bicubic", antialias=True)
    assert pixels.max() > 1.01
    assert torch.equal(checked(pixels[0]), pixels[0].clamp(0, 1))


def test_gradients_within_the_range_are_whole_and_none_beyond():
    pixels = torch.linspace(-0.1, 1.1, 3 * 4 * 5, dtype=torch.float64).reshape(3, 4, 5)
    pixels.requires_grad_()
    weights = torch.rand(3, 4, 5, dtype=torch.float64)
    (found,) = torch.autograd.grad((checked(pixels) * weights).sum(), pixels)
    (expected,) = torch.autograd.grad((pixels.clamp(0, 1) * weights).sum(), pixels)
    assert torch.equal(found, expected)
    inner = torch.rand(3, 4, 5, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(checked, inner)


def test_reducing_keeps_the_precision():
    preprocessing = Preprocessing(crop=16, shorter_side=20)
    image = torch.rand(3, 50, 60, dtype=torch.float64)
    fitted = resize_and_pad(image, preprocessing)
    assert fitted.dtype == torch.float64
    assert torch.equal(fitted.float(), resize_and_pad(image.float(), preprocessing))
