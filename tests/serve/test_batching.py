"""Micro-batching gives the engine's scores, and never leaves a request waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qfm_iqm.image.load import Reading, ReadingPolicy, read
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.serve import batching
from qfm_iqm.serve.batching import Batcher


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


def decoded(path):
    return read(str(path), ReadingPolicy(Preprocessing(crop=48)))


def test_scores_of_many_clients_are_the_engines(model, photo_folder):
    photos = sorted(photo_folder.iterdir())
    expected = [row.score for row in Scorer(model, device="cpu").score_paths(photos)]
    together = []
    batcher = Batcher(model, device="cpu", observe=together.append)
    try:
        images = [decoded(photo) for photo in photos]
        with ThreadPoolExecutor(8) as clients:
            places = [i for _ in range(5) for i in range(len(photos))]
            rows = list(clients.map(lambda i: batcher.score(images[i]).result(60), places))
    finally:
        batcher.close()
    # Other batches round differently in the last digit of a row.
    assert [row.score for row in rows] == pytest.approx([expected[i] for i in places], abs=1e-5)
    assert sum(together) == len(places)
    assert len(together) < len(places)  # some shared a batch


def test_what_fails_fails_alone_and_the_thread_goes_on(model, photo_folder):
    image = decoded(sorted(photo_folder.iterdir())[0])
    batcher = Batcher(model, device="cpu")
    try:
        broken = Reading("", np.zeros((2, 60, 60), np.float32), 60, 60)  # not RGB
        with pytest.raises(RuntimeError):
            batcher.score(broken).result(60)
        with pytest.raises(ValueError, match="RGB"):
            batcher.explain(broken).result(60)
        cancelled = batcher.score(image)
        cancelled.cancel()
        assert batcher.score(image).result(60).status == "ok"
    finally:
        batcher.close()


def test_an_image_that_cannot_be_cut_costs_no_other_its_score(model, photo_folder):
    image = decoded(sorted(photo_folder.iterdir())[0])
    together = []
    held = threading.Event()
    batcher = Batcher(model, device="cpu", observe=lambda n: (together.append(n), held.wait(60)))
    try:
        first = batcher.score(image)  # the model waits until all have arrived
        broken = Reading("", np.zeros(60, np.float32), 60, 60)  # has no rows
        others = [batcher.score(each) for each in (image, broken, image)]
        held.set()
        assert others[0].result(60).score == others[2].result(60).score == first.result(60).score
        with pytest.raises(ValueError, match="unpack"):
            others[1].result(60)
        assert together in ([1, 3], [4])  # either way, the broken one shared a batch
    finally:
        batcher.close()


def test_closing_finishes_what_waits(model, photo_folder, monkeypatch):
    monkeypatch.setattr(batching, "_TOGETHER", 2)
    image = decoded(sorted(photo_folder.iterdir())[0])
    batcher = Batcher(model, device="cpu")
    waiting = [batcher.score(image) for _ in range(7)]
    batcher.close()
    assert {future.result(0).status for future in waiting} == {"ok"}
