import io
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from qfm_iqm.image.distortions import (
    DISTORTIONS,
    contrast,
    distort,
    down_up,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    jpeg2000,
)

SIZES = st.integers(1, 40)


def natural(height=96, width=128):
    """Smooth shapes, edges and fine texture, so that every degradation has something to take."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    shading = 0.5 + 0.25 * np.sin(x / 17)[None] * np.cos(np.stack([y / 11, y / 13, y / 19]))
    edges = 0.25 * (((x // 16 + y // 12) % 2) - 0.5)
    texture = ndimage.gaussian_filter(rng.normal(size=(3, height, width)), (0, 0.7, 0.7))
    return torch.from_numpy(np.clip(shading + edges + 0.1 * texture, 0, 1)).float()


def random_image(height, width, seed=0):
    return torch.rand((3, height, width), generator=torch.Generator().manual_seed(seed))


def psnr(image, other):
    return -10 * torch.log10(((image - other) ** 2).mean()).item()


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.floats(0.2, 6))
def test_blur_is_scipys_gaussian_filter_at_every_size(height, width, sigma):
    image = random_image(height, width)
    expected = ndimage.gaussian_filter(
        image.double().numpy(), (0, sigma, sigma), mode="reflect", truncate=4
    )
    np.testing.assert_allclose(gaussian_blur(image, sigma).numpy(), expected, atol=2e-6)


def test_blur_of_zero_is_a_copy():
    image = natural()
    blurred = gaussian_blur(image, 0)
    assert torch.equal(blurred, image)
    assert blurred.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("quality", [4, 35, 95])
def test_jpeg_is_what_pillow_encodes_and_decodes(quality):
    image = natural()
    pixels = np.rint(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(jpeg(image, quality).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [10, 40])
def test_jpeg2000_spends_the_bits_of_its_rate_and_no_more(rate):
    image = natural(256, 256)
    pixels = np.rint(image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    file = io.BytesIO()
    options = {"quality_mode": "rates", "quality_layers": [rate], "irreversible": True}
    Image.fromarray(pixels).save(file, "JPEG2000", **options)
    assert 0.9 < len(file.getvalue()) * rate / pixels.size <= 1.02
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(jpeg2000(image, rate).numpy(), expected, atol=1e-6)


def test_noise_has_the_asked_mean_and_deviation_in_every_colour():
    image = torch.full((3, 200, 200), 0.5)
    noise = (gaussian_noise(image, 0.05, seed=3) - image).numpy()
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 0.05, rtol=0.02)
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), 0, atol=0.001)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


def test_noise_depends_on_seed_shape_and_sigma_alone():
    flat, other = torch.full((3, 20, 20), 0.5), torch.full((3, 20, 20), 0.4)
    first = gaussian_noise(flat, 0.02, seed=1) - flat
    torch.manual_seed(99)
    torch.testing.assert_close(gaussian_noise(other, 0.02, seed=1) - other, first)
    torch.testing.assert_close((gaussian_noise(flat, 0.04, seed=1) - flat) / 2, first)
    assert not torch.equal(gaussian_noise(flat, 0.02, seed=2) - flat, first)


def test_drawing_noise_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    gaussian_noise(natural(), 0.1, seed=5)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_contrast_scales_the_deviation_about_the_same_mean(factor):
    image = natural()
    changed = contrast(image, factor)
    assert changed.mean().item() == pytest.approx(image.mean().item(), abs=1e-5)
    assert changed.std().item() == pytest.approx(factor * image.std().item(), abs=1e-5)


def test_raised_contrast_is_clipped():
    changed = contrast(natural(), 20)
    assert changed.min() == 0
    assert changed.max() == 1


def test_down_up_keeps_block_means_and_nothing_finer():
    image = natural(64, 96)
    pixels = (image.numpy() * 255).astype(np.float32)
    for channel, result in zip(pixels, down_up(image, 4).numpy(), strict=True):
        blocks = channel.reshape(16, 4, 24, 4).mean(axis=(1, 3))
        # Pillow's bicubic differs in its border rule and coefficient, hence the inside only.
        pillow = Image.fromarray(blocks).resize((96, 64), Image.Resampling.BICUBIC)
        expected = np.asarray(pillow)[12:-12, 12:-12] / 255
        np.testing.assert_allclose(result[12:-12, 12:-12], expected, atol=0.03)


@pytest.mark.parametrize("factor", [1.5, 2.5, 1.28])
def test_down_up_shares_pixels_between_blocks_where_the_factor_is_no_whole_number(factor):
    image = natural(64, 96)
    small = (round(64 / factor), round(96 / factor))
    # Each pixel repeated so often that new and old borders coincide, then plain block means.
    fine = image.numpy().repeat(small[0], axis=1).repeat(small[1], axis=2)
    means = fine.reshape(3, small[0], 64, small[1], 96).mean(axis=(2, 4))
    expected = functional.interpolate(torch.from_numpy(means)[None], (64, 96), mode="bicubic")
    torch.testing.assert_close(down_up(image, factor), expected[0].clamp(0, 1))


def test_down_up_of_a_fine_checkerboard_is_grey():
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    flat = down_up(checks.float().expand(3, 32, 32), 2)
    torch.testing.assert_close(flat, torch.full((3, 32, 32), 0.5))


@settings(max_examples=40, deadline=None)
@given(SIZES, SIZES, st.sampled_from(sorted(DISTORTIONS)), st.integers(1, 5), st.integers(0, 9))
def test_any_distortion_of_any_size_keeps_shape_and_range_and_repeats(
    height, width, name, level, seed
):
    image = random_image(height, width, seed)
    before = image.clone()
    changed = distort(image, name, level, seed)
    assert changed.shape == image.shape
    assert changed.dtype == image.dtype
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(image, before)
    assert torch.equal(changed, distort(image, name, level, seed))


@pytest.mark.parametrize("name", DISTORTIONS)
def test_one_pixel_can_be_distorted(name):
    assert distort(torch.full((3, 1, 1), 0.5), name, 5).shape == (3, 1, 1)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_fidelity_falls_strictly_with_the_level(name):
    # In small files JPEG 2000's headers leave nothing for the pixels.
    image = natural(256, 384) if name == "jpeg2000" else natural()
    fidelity = [psnr(image, distort(image, name, level)) for level in range(1, 6)]
    assert all(now > later for now, later in itertools.pairwise(fidelity)), fidelity
    assert fidelity[0] - fidelity[-1] > 4


def test_there_are_five_levels_of_each_and_nobody_can_change_them():
    assert list(DISTORTIONS) == ["blur", "jpeg", "jpeg2000", "noise", "contrast", "resample"]
    assert {len(strengths) for strengths in DISTORTIONS.values()} == {5}
    with pytest.raises(TypeError):
        DISTORTIONS["blur"] = ()


def test_unknown_names_and_levels_are_told_what_exists():
    image = random_image(4, 4)
    with pytest.raises(ValueError, match=r"'fog'.*blur, jpeg, jpeg2000, noise, contrast, resample"):
        distort(image, "fog", 1)
    for level in (0, 6, -1, 1.5, "2"):
        with pytest.raises(ValueError, match=r"choose one of 1\.\.5"):
            distort(image, "blur", level)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda image: gaussian_blur(image, -1), "sigma"),
        (lambda image: gaussian_blur(image, float("nan")), "sigma"),
        (lambda image: gaussian_noise(image, -0.1, 0), "sigma"),
        (lambda image: jpeg(image, 0), "quality"),
        (lambda image: jpeg(image, 101), "quality"),
        (lambda image: jpeg2000(image, 0.5), "rate"),
        (lambda image: contrast(image, -0.1), "factor"),
        (lambda image: down_up(image, 0.5), "factor"),
    ],
)
def test_impossible_strengths_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call(random_image(4, 4))
