"""Perceptual hashes against the package imagehash."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.image.perceptual_hash import perceptual_hash


def test_it_is_that_of_imagehash(photo_folder):
    for path in sorted(photo_folder.iterdir()):
        pixels = read_image_uint8(path)
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        expected = np.packbits(imagehash.phash(image).hash)
        assert np.array_equal(perceptual_hash(pixels), expected)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 7, 300), (3, 400, 3)])
def test_any_size(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert perceptual_hash(pixels).shape == (8,)
