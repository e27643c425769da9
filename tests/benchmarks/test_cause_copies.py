"""Copies with known faults: the labels match the faults and the raters' opinions of them."""

import math

import numpy as np
import pytest

from cause_copies import drawn_copy
from cause_faults import FLOOR, GOOD, KINDS, of_cells, opinion_kept, points
from cause_files import filmed, saved_jpeg
from cause_tones import film
from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.image.distortions import DISTORTIONS
from qfm_iqm.training.degradations import CLEAN, LIKE_JPEG, Cells

data = pytest.importorskip("skimage.data", reason="real photographs come with scikit-image")
pytest.importorskip("av", reason="frames of videos need the extra 'video'")

OPINIONS = (4.5, 4.0, 3.2, 2.0, 1.4)  # made up, in KADID-10k's format
STRENGTHS = {
    "gaussian blur": (0.1, 0.5, 1, 2, 5), "lens blur": (1, 2, 4, 6, 8),
    "motion blur": (1, 2, 4, 6, 10), "denoise": (0.01, 0.02, 0.03, 0.05, 0.1),
    "white noise": (0.001, 0.002, 0.003, 0.005, 0.01),
    "white noise in color components": (0.001, 0.002, 0.003, 0.005, 0.01),
    "impulse noise": (0.001, 0.005, 0.01, 0.02, 0.03),
    "multiplicative noise": (0.001, 0.005, 0.01, 0.02, 0.05),
    "jpeg": (43, 36, 24, 7, 4), "jpeg2000": (16, 32, 45, 120, 400),
    "pixelate": (.01, .05, .1, .2, .5),
    "brighten": (.1, .2, .4, .7, 1.1), "darken": (.05, .1, .2, .4, .8),
    "mean shift": (.15, .08, 0, -.08, -.15), "contrast change": (.3, .15, 0, -.4, -.6),
    "color saturation 1": (.4, .2, .1, 0, -.4), "color saturation 2": (1, 2, 3, 6, 9),
    "color quantization": (64, 48, 32, 16, 8), "quantization": (20, 16, 13, 10, 7), **LIKE_JPEG,
}  # fmt: skip
CELLS = Cells({kind: tuple(zip(found, OPINIONS, strict=True)) for kind, found in STRENGTHS.items()})
PHOTO = np.ascontiguousarray(data.coffee()[:256, :320])


@pytest.mark.parametrize("emphasis", ["", "light", "files", "video", "film", "tones"])
def test_labels_say_what_was_done(emphasis):
    found = set()
    for number in range(24):
        copy = drawn_copy(PHOTO, CELLS, np.random.default_rng(number), emphasis)
        again = drawn_copy(PHOTO, CELLS, np.random.default_rng(number), emphasis)
        assert copy.pixels.dtype == np.uint8
        assert np.array_equal(copy.pixels, again.pixels)
        assert min(copy.pixels.shape[:2]) >= 64
        faults = [] if copy.faults == "none" else copy.faults.split(" + ")
        assert (copy.severities > 0).sum() <= len(faults) <= 2
        assert (copy.severities <= points(0)).all()
        found |= {cause for cause, points in zip(CAUSES, copy.severities, strict=True) if points}
        assert not any(fault.startswith("webp") for fault in faults)  # for tests of unseen faults
    if emphasis == "tones":
        assert found <= {"exposure", "contrast", "color"}
    assert len(found) >= 3


def test_what_checks_have_to_themselves_is_not_drawn():
    draw = np.random.default_rng(0)
    kinds = {of_cells("compression")(PHOTO[:64, :64], CELLS, draw)[1].split()[0] for _ in range(60)}
    assert kinds == set(KINDS["compression"]) - {"webp"}


def test_opinions_between_and_beyond_the_levels():
    assert opinion_kept(CELLS, "jpeg", 24) == pytest.approx((3.2 - 1) / (CLEAN - 1))
    assert opinion_kept(CELLS, "jpeg", 100) == 1
    between = opinion_kept(CELLS, "white noise", math.sqrt(0.005 * 0.01))
    assert between == pytest.approx((1.7 - 1) / (CLEAN - 1))
    assert 0 <= opinion_kept(CELLS, "gaussian blur", 100) < 0.1
    assert opinion_kept(CELLS, "gaussian blur", 0) == 1


def test_film_keeps_black_and_costs_what_a_parabola_of_the_same_mean_costs():
    for seed in range(40):
        pixels, said, kept = film(PHOTO, CELLS, np.random.default_rng(seed))
        if said.startswith("film"):
            stops = float(said.split()[1])
            assert (pixels.mean() > PHOTO.mean()) == (stops > 0)
            assert (pixels[PHOTO == 0] == 0).all()
            assert kept > 0.9 or abs(stops) > 0.3
            if stops < -1:  # no white left, unlike with a curve through both ends
                assert pixels.max() < 235


def test_frames_of_videos_lose_more_the_coarser_they_are_quantized():
    errors = {}
    for seed in range(60):
        pixels, said, kept = filmed(PHOTO, CELLS, np.random.default_rng(seed))
        assert pixels.shape == PHOTO.shape
        if said.startswith("libx264"):
            error = float(np.square(pixels.astype(float) - PHOTO).mean())
            errors[int(said.split()[1])] = (error, kept)
    by_quantizer = np.array([errors[q] for q in sorted(errors)])
    assert (np.diff(by_quantizer[:, 1]) <= 0).all()
    assert by_quantizer[-1, 0] > 3 * by_quantizer[0, 0]


def test_jpeg_tables_are_those_of_libjpeg():
    draw = np.random.default_rng(0)
    errors = [
        float(np.square(saved_jpeg(PHOTO, quality, draw).astype(float) - PHOTO).mean())
        for quality in (95, 50, 20, 5)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 20


def test_points_lie_between_a_good_photo_and_the_worst():
    assert points(1.0) == 0
    assert points(0.0) == GOOD - FLOOR


def test_each_cause_has_kinds_of_its_own():
    assert set(KINDS) == set(CAUSES)
    kinds = [kind for cause in CAUSES for kind in KINDS[cause]]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) <= set(DISTORTIONS)
