import numpy as np
import pytest

from qfm_iqm.image.pixel_features import NAMES, pixel_statistics


def by_name(image):
    return dict(zip(NAMES, pixel_statistics(image).tolist(), strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (40, 30)])
@pytest.mark.parametrize("fill", ["flat", "random"])
def test_every_image_has_finite_statistics(size, fill):
    image = (
        np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8)
        if fill == "random"
        else np.full((3, *size), 77, np.uint8)
    )
    found = pixel_statistics(image)
    assert found.shape == (len(NAMES),)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()


def test_against_a_slow_count():
    draw = np.random.default_rng(0)
    levels = draw.integers(0, 256, (3, 12, 10), np.uint8)
    levels[:, :, 4:7] = levels[:, :, 4:5]  # equal side by side
    levels[:, 3] = levels[:, 2]  # equal one above the other
    levels[:, 0, 0], levels[:, 1, 1] = 0, 255
    levels[:, 5, 5], levels[:, 6, 6] = (
        (1, 1, 1),
        (254, 254, 254),
    )  # nearly
    found = by_name(levels)
    image = levels / 255
    gray = image.mean(0)
    across = [(image[:, y, x] == image[:, y, x + 1]).all() for y in range(12) for x in range(9)]
    down = [(image[:, y, x] == image[:, y + 1, x]).all() for y in range(11) for x in range(10)]
    assert found["equal_across"] == pytest.approx(np.mean(across))
    assert found["equal_down"] == pytest.approx(np.mean(down))
    assert found["brightness"] == pytest.approx(gray.mean(), rel=1e-5)
    assert found["contrast"] == pytest.approx(np.log(gray.std() + 0.25 / 255), rel=1e-5)
    assert found["dark"] == pytest.approx((gray < 0.99 / 255).mean())
    assert found["bright"] == pytest.approx((gray > 254.01 / 255).mean())
    assert found["chroma"] == pytest.approx((image.max(0) - image.min(0)).mean(), rel=1e-5)
    steps = np.abs(np.concatenate([np.diff(gray, axis=1).ravel(), np.diff(gray, axis=0).ravel()]))
    assert found["gradient"] == pytest.approx(np.log(steps.mean() + 0.25 / 255), rel=1e-4)
    small = gray.reshape(6, 2, 5, 2).mean((1, 3))
    coarse = np.abs(np.concatenate([np.diff(small, axis=k).ravel() for k in (0, 1)])).mean()
    expected = np.log(coarse + 0.25 / 255) - np.log(steps.mean() + 0.25 / 255)
    assert found["coarser"] == pytest.approx(expected, rel=1e-3)
    tiny = small[:, :4].reshape(3, 2, 2, 2).mean((1, 3))
    coarse = np.abs(np.concatenate([np.diff(tiny, axis=k).ravel() for k in (0, 1)])).mean()
    expected = np.log(coarse + 0.25 / 255) - np.log(steps.mean() + 0.25 / 255)
    assert found["coarsest"] == pytest.approx(expected, rel=1e-3)
    colors = {tuple(np.floor(image[:, y, x] * 15 + 0.5)) for y in range(12) for x in range(10)}
    assert found["colors"] == pytest.approx(np.log(len(colors)))


def test_colors_are_told_apart_at_the_nearest_of_sixteen_levels():
    for value in range(255):
        pair = np.array([value, value + 1], np.uint8).reshape(1, 1, 2).repeat(3, axis=0)
        nearest = {round(value / 17), round((value + 1) / 17)}
        assert by_name(pair)["colors"] == pytest.approx(np.log(len(nearest))), value


def test_noise_is_rough_and_a_slope_is_not():
    slope = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8), (3, 64, 64))
    grain = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    assert by_name(grain)["roughness"] > by_name(slope)["roughness"] + 2
    assert by_name(grain)["coarser"] < by_name(slope)["coarser"] - 0.5


def test_a_flat_color_is_one_color():
    found = by_name(np.full((3, 20, 20), 128, np.uint8))
    assert (found["equal_across"], found["colors"], found["commonest"]) == (1, 0, 1)
