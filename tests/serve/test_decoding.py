"""Decoding workers and their limits, with real processes and real images."""

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.image.decode import read_image
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.preprocess_torch import fit
from qfm_iqm.image.resize import as_floats
from qfm_iqm.serve.decoding import Decoder, RefusedError
from qfm_iqm.serve.limits import Limits

PREPROCESSING = Preprocessing(crop=48, shorter_side=96)


@pytest.fixture(scope="module")
def decoder():
    pool = Decoder(PREPROCESSING, Limits(workers=2, pixels=30_000_000, decode_bytes=80_000_000))
    yield pool
    pool.close()


def test_pixels_are_those_of_the_reader_bit_for_bit(decoder, photo_folder):
    photos = sorted(photo_folder.iterdir())
    with ThreadPoolExecutor(4) as threads:  # more than there are workers
        decoded = list(threads.map(lambda photo: decoder.decode(photo.read_bytes()), photos))
    for photo, found in zip(photos, decoded, strict=True):
        image = read_image(photo)
        assert (found.height, found.width) == image.shape[1:]
        expected = fit(image, PREPROCESSING).numpy()
        np.testing.assert_array_equal(as_floats(found.pixels), expected)


def test_memory_is_bounded(decoder):
    field = io.BytesIO()
    Image.new("RGB", (5000, 5000), (90, 10, 30)).save(field, "PNG")  # 100 MB decoded
    with pytest.raises(RefusedError, match="memory") as refused:
        decoder.decode(field.getvalue())
    assert refused.value.code == 413
    small = io.BytesIO()
    Image.new("RGB", (50, 50)).save(small, "PNG")
    for _ in range(4):  # each worker goes on
        assert decoder.decode(small.getvalue()).width == 50


def test_time_is_bounded_and_the_dead_are_replaced():
    pool = Decoder(PREPROCESSING, Limits(workers=1, decode_seconds=3))
    try:
        pixels = np.zeros((60, 60, 3), np.uint8)
        image = io.BytesIO()
        Image.fromarray(pixels).save(image, "PNG")
        (worker,) = _workers()[-1:]
        os.kill(worker, signal.SIGSTOP)  # it hangs
        with pytest.raises(RefusedError, match="more time than is allowed") as refused:
            pool.decode(image.getvalue())
        assert refused.value.code == 413
        assert pool.restarts == 1
        assert not Path(f"/proc/{worker}").exists()
        assert pool.decode(image.getvalue()).width == 60
    finally:
        pool.close()


def _workers():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid) for pid in children if b"serve.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_damaged_images_never_stop_a_worker(decoder, photo_folder):
    draw = np.random.default_rng(5)
    before = decoder.restarts
    outcomes = set()
    for photo in sorted(photo_folder.iterdir()):
        content = bytearray(photo.read_bytes())
        for _ in range(6):
            content[draw.integers(len(content))] ^= 1 << draw.integers(8)
            try:
                decoder.decode(bytes(content[: draw.integers(1, len(content) + 1)]))
                outcomes.add(200)
            except RefusedError as error:
                outcomes.add(error.code)
    assert outcomes <= {200, 413, 415}
    assert 415 in outcomes
    assert decoder.restarts == before
