import numpy as np
import pytest
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio

from tid2013 import MADE, PSNR, at_psnr, figures, opinions_of


@pytest.mark.parametrize("kind", MADE)
def test_a_copy_has_the_psnr_of_its_level(kind):
    pixels = np.ascontiguousarray(astronaut()[64:256, 128:384])
    reached = [
        peak_signal_noise_ratio(pixels, at_psnr(pixels, kind, target, "a")) for target in PSNR
    ]
    # Integer strengths (levels, colors, JPEG quality) come less near.
    assert reached == pytest.approx(PSNR, abs=2.5 if MADE[kind].whole else 0.1)


def test_opinions_are_found_by_photo_kind_and_level(tmp_path):
    rated = tmp_path / "mos_with_names.txt"
    rated.write_text("5.5 I01_01_1.bmp\n4.25 i24_10_5.bmp\n")
    assert opinions_of(tmp_path) == {
        (1, "additive Gaussian noise", 1): 5.5,
        (24, "JPEG compression", 5): 4.25,
    }


def test_content_counts_over_all_photos_and_not_within_one():
    said = [5.0, 4.0, 3.0, 9.0, 8.0, 7.0]
    kinds, photos = ["JPEG compression"] * 6, [1, 1, 1, 2, 2, 2]
    scores = [95.0, 94.0, 93.0, 5.0, 4.0, 3.0]  # right within each photo, reversed between photos
    whole, within, kind = figures(scores, said, kinds, photos)
    assert whole[:2] == ("all", 6)
    assert within == ("within photos, mean", 2, 1)
    assert kind[0] == "JPEG compression"
    assert whole[2] == kind[2] < 0
