"""The views for causes of low quality: tiles at the same places in every photo."""

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.image.preprocess import Preprocessing, resized
from qfm_iqm.image.resize import read_resized
from qfm_iqm.image.views import LEAST, TILE, TILES, WHOLE, places, reduction, views_of

PREPROCESSING = Preprocessing(crop=288, max_aspect=2.0, shorter_side=288, resample="bilinear")


def photo(height, width, seed=0):
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return (smooth + draw.normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)


def read(image, tmp_path, name="a.png", preprocessing=PREPROCESSING, **options):
    path = tmp_path / name
    Image.fromarray(image).save(path, **options)
    return read_resized(path, preprocessing, viewed=True)


def same(views, others):
    return np.array_equal(views.tiles, others.tiles) and np.array_equal(views.whole, others.whole)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (64, 64), (700, 500), (40, 900)])
def test_tiles_of_a_file_are_the_photos_own_pixels(height, width, tmp_path):
    image = photo(height, width)
    found = read(image, tmp_path)
    tops_lefts = list(places(height, width))
    assert found.views.tiles.shape == (TILES, TILE, TILE, 3)
    assert found.views.whole.shape == (WHOLE, WHOLE, 3)
    for tile, (top, left) in zip(found.views.tiles, tops_lefts, strict=True):
        own = image[top : top + TILE, left : left + TILE]
        assert np.array_equal(tile[: own.shape[0], : own.shape[1]], own)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_has_the_views_of_the_upright_one(orientation, tmp_path):
    image = photo(300, 420)
    stored = Image.fromarray(image)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposes, which a viewer undoes
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    found = read_resized(tmp_path / "turned.png", PREPROCESSING, viewed=True)
    assert same(found.views, read(image, tmp_path).views)


def test_views_of_an_array_are_those_of_its_file(tmp_path):
    image = photo(600, 450)
    small = resized(image, (384, 288), "bilinear")
    assert same(views_of(image, small), read(image, tmp_path).views)


def test_places_are_spread_and_fall_on_any_phase_of_blocks():
    found = np.array(list(places(512, 512)))
    assert len({(top // 128, left // 128) for top, left in found + TILE // 2}) == TILES
    assert len({top % 8 for top, _ in found}) > 4
    assert (found >= 0).all()
    assert (found <= 512 - TILE).all()


@pytest.mark.parametrize(
    ("side", "times"), [(100, 1), (2 * LEAST - 1, 1), (2 * LEAST, 2), (3000, 4), (9000, 8)]
)
def test_large_photos_are_seen_as_on_a_screen(side, times):
    assert reduction(side, side + 50) == times
    assert side < 2 * LEAST or LEAST <= side / times < 2 * LEAST


def test_a_large_photo_is_seen_alike_in_any_format_and_by_any_model(tmp_path):
    image = photo(1300, 1700)
    png = read(image, tmp_path)
    jpeg = read(image, tmp_path, "a.jpg", quality=98, subsampling=0)
    other = read(image, tmp_path, "b.jpg", Preprocessing(crop=224, shorter_side=384),
                 quality=98, subsampling=0)  # fmt: skip
    for found in (jpeg, other):
        difference = png.views.tiles.astype(int) - found.views.tiles
        assert np.abs(difference).mean() < 3
        assert np.abs(png.views.whole.astype(int) - found.views.whole).max() < 9


def test_no_views_are_cut_unless_they_are_wanted(tmp_path):
    Image.fromarray(photo(80, 90)).save(tmp_path / "a.png")
    assert read_resized(tmp_path / "a.png", PREPROCESSING).views is None
