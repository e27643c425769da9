"""Each degradation against another implementation: scipy, scikit-image, imagecodecs, numpy."""

import colorsys
import io
import math
from functools import partial

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage import color, restoration

from qfm_iqm.image.distortions import DISTORTIONS, LEVELS, distort, distort_at

ORDINARY = {
    "gaussian blur": 2, "lens blur": 4, "motion blur": 6, "resample": 3, "pixelate": 0.1,
    "jpeg": 10, "jpeg2000": 120, "webp": 10, "avif": 20, "white noise": 0.005,
    "white noise in color components": 0.002, "impulse noise": 0.02, "multiplicative noise": 0.02,
    "denoise": 0.1, "brighten": 0.4, "darken": 0.4, "mean shift": -0.15, "contrast change": 0.3,
    "low contrast": 0.5, "color saturation 1": 0.2, "color saturation 2": 3,
    "color quantization": 16, "quantization": 10, "high sharpen": 3,
}  # fmt: skip


def natural(height=96, width=128):
    """Smooth shapes, edges and fine texture, so that every degradation has an effect."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    shading = 0.5 + 0.25 * np.sin(x / 17)[None] * np.cos(np.stack([y / 11, y / 13, y / 19]))
    edges = 0.25 * (((x // 16 + y // 12) % 2) - 0.5)
    texture = ndimage.gaussian_filter(rng.normal(size=(3, height, width)), (0, 0.7, 0.7))
    values = np.clip(shading + edges + 0.1 * texture, 0, 1).transpose(1, 2, 0)
    return np.ascontiguousarray(np.rint(255 * values).astype(np.uint8))


def noise_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_near(found, expected, most=1):
    """Equal except for rounding: `expected` is in [0, 1], unclipped."""
    expected = np.clip(np.asarray(expected), 0, 1) * 255
    assert np.abs(found.astype(float) - expected).max() <= most


def psnr(pixels, other):
    error = ((pixels.astype(float) - other.astype(float)) ** 2).mean()
    return 10 * math.log10(255**2 / max(error, 1e-9))


def test_every_kind_is_tried_here():
    assert set(ORDINARY) == set(DISTORTIONS)


@pytest.mark.parametrize("kind", DISTORTIONS)
@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_any_size_keeps_its_shape_and_the_same_seed_gives_the_same(kind, height, width, seed):
    image = noise_image(height, width)
    before = image.copy()
    found = distort(image, kind, ORDINARY[kind], seed)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, distort(image, kind, ORDINARY[kind], seed))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1, 2, 5])
def test_gaussian_blur_is_that_of_scipy_cut_at_the_same_place(sigma):
    image = natural()
    radius = math.ceil(2 * sigma)
    expected = ndimage.gaussian_filter(
        image / 255, (sigma, sigma, 0), mode="nearest", radius=(radius, radius, 0)
    )
    assert_near(distort(image, "gaussian blur", sigma), expected)


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
def test_lens_blur_averages_a_disk(radius):
    """The weight of a pixel is its area within the circle, here by quadrature along one axis."""
    image = natural()
    reach = math.ceil(radius - 0.5)
    fine = (np.arange(2000) + 0.5) / 2000 - 0.5
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row, y in enumerate(range(-reach, reach + 1)):
        half = np.sqrt(np.clip(radius**2 - (y + fine) ** 2, 0, None))
        for column, x in enumerate(range(-reach, reach + 1)):
            covered = np.minimum(x + 0.5, half) - np.maximum(x - 0.5, -half)
            kernel[row, column] = np.clip(covered, 0, None).mean()
    assert kernel.sum() == pytest.approx(math.pi * radius**2, rel=0.05)
    kernel /= kernel.sum()
    expected = ndimage.convolve(image / 255, kernel[..., None], mode="nearest")
    assert_near(distort(image, "lens blur", radius), expected)


def test_motion_blur_smears_along_one_direction_only():
    """A point becomes a line of its length whose direction the seed draws."""
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    directions = []
    for seed in range(12):
        y, x = np.nonzero(distort(image, "motion blur", 11, seed)[..., 0] > 4)
        spread = np.linalg.eigh(np.cov(np.stack([x, y])))
        assert spread[0][1] > 12 * spread[0][0]
        assert 9 <= np.ptp(np.stack([x, y]).T @ spread[1][:, 1]) <= 13
        directions.append(math.atan2(*spread[1][::-1, 1]) % math.pi)
    assert np.std(directions) > 0.4
    flat = np.full((9, 9, 3), 77, np.uint8)
    assert (distort(flat, "motion blur", 6) == 77).all()


@pytest.mark.parametrize("length", [1, 4, 10])
def test_motion_blur_keeps_the_mean(length):
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    found = distort(image, "motion blur", length, 3).astype(int)
    assert found.sum() == pytest.approx(3 * 255, abs=40)


def test_pixelate_repeats_pixels_of_the_image():
    image = natural()
    found = distort(image, "pixelate", 0.1)
    share = 0.95 - 0.1**0.6
    height, width = round(96 * share), round(128 * share)
    rows, columns = (np.arange(n) * m // n for n, m in ((96, height), (128, width)))
    smaller = image[np.arange(height) * 96 // height][:, np.arange(width) * 128 // width]
    np.testing.assert_array_equal(found, smaller[rows][:, columns])


def test_resample_averages_areas():
    image = natural(96, 96)
    blocks = image.reshape(32, 3, 32, 3, 3).mean((1, 3))
    flat = np.repeat(np.repeat(blocks, 3, 0), 3, 1)
    assert psnr(distort(image, "resample", 3), np.rint(flat).astype(np.uint8)) > 24
    assert (distort(np.full((7, 5, 3), 90, np.uint8), "resample", 8) == 90).all()


@pytest.mark.parametrize("quality", [4, 35, 95])
def test_jpeg_is_what_libjpeg_turbo_encodes_by_another_binding(quality):
    image = natural()
    encoded = imagecodecs.jpeg8_encode(image, level=quality, subsampling="420")
    assert psnr(distort(image, "jpeg", quality), imagecodecs.jpeg8_decode(encoded)) > 45


@pytest.mark.parametrize("rate", [16, 120])
def test_jpeg2000_spends_the_bits_of_its_rate_and_no_more(rate):
    image = natural(256, 256)
    file = io.BytesIO()
    options = {"quality_mode": "rates", "quality_layers": [rate], "irreversible": True}
    Image.fromarray(image).save(file, "JPEG2000", **options)
    assert 0.8 < len(file.getvalue()) * rate / image.size <= 1.02
    expected = imagecodecs.jpeg2k_decode(file.getvalue())
    assert psnr(distort(image, "jpeg2000", rate), expected) > 45


@pytest.mark.parametrize(("kind", "encode", "decode"), [
    ("webp", partial(imagecodecs.webp_encode, lossless=False), imagecodecs.webp_decode),
    ("avif", imagecodecs.avif_encode, imagecodecs.avif_decode),
])  # fmt: skip
def test_webp_and_avif_lose_what_another_binding_loses(kind, encode, decode):
    image = natural(256, 256)
    other = decode(encode(image, level=20))[..., :3]
    found = distort(image, kind, 20)
    assert psnr(found, image) == pytest.approx(psnr(other, image), abs=4)


@pytest.mark.parametrize("variance", [0.001, 0.01])
def test_white_noise_has_its_variance(variance):
    image = np.full((200, 200, 3), 128, np.uint8)
    noise = distort(image, "white noise", variance, 5) / 255 - 128 / 255
    assert noise.var() == pytest.approx(variance, rel=0.03)
    assert abs(noise.mean()) < 0.002
    flat = noise.reshape(-1, 3)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.02


def test_color_noise_has_its_variance_in_luma_and_chroma():
    image = np.full((200, 200, 3), 128, np.uint8)
    found = color.rgb2ycbcr(distort(image, "white noise in color components", 0.003, 5))
    spans = np.array([219, 224, 224])  # ranges of scikit-image's digital components
    expected = np.full(3, 0.003)
    # 601's inverse is linear: noise on (Y, Cr, Cb) comes back unchanged, except for rounding.
    np.testing.assert_allclose((found / spans).var((0, 1)), expected, rtol=0.08)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_impulses_are_black_and_white_in_equal_number(share):
    image = np.full((200, 200, 3), 128, np.uint8)
    found = distort(image, "impulse noise", share, 5)
    for value in (0, 255):
        assert (found == value).mean() == pytest.approx(share / 2, rel=0.1)
    assert set(np.unique(found)) == {0, 128, 255}


def test_multiplicative_noise_grows_with_the_value():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, :100], image[:, 100:] = 50, 150
    found = distort(image, "multiplicative noise", 0.01, 5).astype(float)
    for half, value in ((found[:, :100], 50), (found[:, 100:], 150)):
        assert half.std() == pytest.approx(0.1 * value, rel=0.05)


def test_denoising_leaves_little_of_weak_noise_and_more_of_strong_noise():
    clean = np.zeros((120, 160, 3), np.uint8)
    clean[:, :80], clean[:, 80:] = 60, 190
    left = []
    for variance in (0.05, 0.1, 0.15):  # of 50, 64 and 73 levels where it was clipped
        found = distort(clean, "denoise", variance, 1).astype(float)
        noise = distort(clean, "white noise", variance, 1).astype(float)
        assert found[:, 84].mean() - found[:, 75].mean() > 90  # the edge stays
        left.append(found[:, 10:70].std() / noise[:, 10:70].std())
    assert left[0] < 0.2
    assert left == sorted(left)


def test_denoising_is_non_local_means_of_each_color():
    """Against scikit-image's, which weighs patches differently."""
    clean = natural()
    noisy = distort(clean, "white noise", 0.01, 3)
    found = distort(clean, "denoise", 0.01, 3).astype(float)
    options = {"patch_size": 5, "patch_distance": 5, "fast_mode": False}
    expected = np.stack(
        [restoration.denoise_nl_means(noisy[..., i] / 255, h=0.09, **options) for i in range(3)], 2
    )
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(found - 255 * expected).mean() < 0.5 * np.abs(noisy - 255 * expected).mean()


@pytest.mark.parametrize(("kind", "curve"), [
    ("brighten", lambda x, s: x + 2 * s * x * (1 - x)),
    ("darken", lambda x, s: x - 2 * s * x * (1 - x)),
    ("contrast change", lambda x, s: x + s * (16 / 3) * x * (x - 0.5) * (x - 1)),
    ("mean shift", lambda x, s: x + s),
])  # fmt: skip
def test_tone_curves_are_the_polynomials_through_their_points(kind, curve):
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for strength in (0.05, 0.3):
        expected = curve(image / 255, -strength if kind == "contrast change" else strength)
        assert_near(distort(image, kind, strength), expected)


def test_low_contrast_scales_the_distance_from_the_mean():
    image = natural()
    values = image / 255
    expected = values.mean() + 0.3 * (values - values.mean())
    assert_near(distort(image, "low contrast", 0.3), expected)


@pytest.mark.parametrize("factor", [0.4, 0, 2.0])
def test_saturation_is_that_of_hsv(factor):
    image = noise_image(12, 12)
    found = distort(image, "color saturation 1", factor)
    for place in np.ndindex(12, 12):
        h, s, v = colorsys.rgb_to_hsv(*(image[place] / 255))
        assert_near(found[place], colorsys.hsv_to_rgb(h, min(1, s * factor), v))


def test_saturation_below_zero_mirrors_colors_at_their_brightest_gray():
    image = noise_image(12, 12)
    found = distort(image, "color saturation 1", -0.4)
    value = image.max(2, keepdims=True) / 255
    assert_near(found, value + 0.4 * (value - image / 255))


@pytest.mark.parametrize("factor", [1, 2, 6])
def test_lab_saturation_is_that_of_scikit_image(factor):
    image = natural()
    lab = color.rgb2lab(image)
    lab[..., 1:] *= factor
    inside = color.lab2rgb(lab)
    found = distort(image, "color saturation 2", factor)
    # Outside the gamut, each library clips differently.
    back = np.abs(color.rgb2lab(inside) - lab).max(2) < 0.5
    assert back.mean() > 0.1
    assert np.quantile(np.abs(found / 255 - inside)[back], 0.99) < 0.005 * factor


def test_color_quantization_leaves_so_many_colors():
    image = natural()
    for colors in (8, 64):
        found = distort(image, "color quantization", colors)
        assert colors / 2 <= len(np.unique(found.reshape(-1, 3), axis=0)) <= colors
    errors = [psnr(distort(image, "color quantization", colors), image) for colors in (64, 16, 4)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("levels", [2, 7, 20])
def test_quantization_leaves_so_many_levels_evenly_spread(levels):
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found = distort(image, "quantization", levels)
    np.testing.assert_array_equal(np.unique(found), np.rint(np.linspace(0, 255, levels)))
    counts = np.unique(found, return_counts=True)[1]
    assert np.ptp(counts) <= 3


@pytest.mark.parametrize("amount", [1, 6])
def test_sharpening_adds_what_scipys_blur_takes(amount):
    image = natural()
    values = image / 255
    blurred = ndimage.gaussian_filter(values, (3, 3, 0), mode="nearest", radius=(6, 6, 0))
    assert_near(distort(image, "high sharpen", amount), values + amount * (values - blurred))


@pytest.mark.parametrize("kind", LEVELS)
def test_each_level_is_further_from_the_image_than_the_one_before(kind):
    image = natural(192, 192)
    found = [psnr(distort_at(image, kind, level), image) for level in range(1, 6)]
    assert found == sorted(found, reverse=True)
    assert len(LEVELS[kind]) == 5


@pytest.mark.parametrize(("kind", "strength"), [
    ("gaussian blur", -1), ("lens blur", -1), ("motion blur", 0.5), ("resample", 0.5),
    ("pixelate", 1), ("jpeg", 0), ("jpeg", 101), ("jpeg2000", 0.5), ("webp", -2), ("avif", 101),
    ("white noise", -0.1), ("impulse noise", 1.5), ("denoise", -1), ("low contrast", -1),
    ("color quantization", 1), ("quantization", 300), ("gaussian blur", float("nan")),
])  # fmt: skip
def test_strengths_out_of_range_are_refused(kind, strength):
    with pytest.raises(ValueError, match=r"strength|share"):
        distort(natural(8, 8), kind, strength)


def test_unknown_kinds_and_levels_are_refused():
    with pytest.raises(ValueError, match="no distortion named 'fog'"):
        distort(natural(8, 8), "fog", 1)
    with pytest.raises(ValueError, match="no levels of 'webp'"):
        distort_at(natural(8, 8), "webp", 1)
    with pytest.raises(ValueError, match="no level 6"):
        distort_at(natural(8, 8), "jpeg", 6)


def test_opencv_is_deterministic_over_its_threads():
    image = noise_image(200, 300)
    found = distort(image, "lens blur", 6)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(distort(image, "lens blur", 6), found)
    finally:
        cv2.setNumThreads(threads)
