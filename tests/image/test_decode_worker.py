"""Messages between a decoding process and its parent, also from a misbehaving process."""

import os
import socket
import time

import numpy as np
import pytest

from qfm_iqm.image.decode_worker import Worker, WorkerDeathError
from qfm_iqm.image.load import ReadingPolicy
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.image.wire import file_in_memory, receive_frame, send_frame

POLICY = ReadingPolicy(Preprocessing(crop=48))
HONEST = {
    "width": 5, "height": 7, "sha256": "ab", "error": "", "too_large": False, "seconds": 0.5,
    "statistics": [0.1, 1e-300], "severities": [0.5, 1, 2, 3, 4, 50],
    "shape": [3, 2, 4], "dtype": "uint8", "colors_last": False,
    "time": None, "taken": "",
}  # fmt: skip


def lying(monkeypatch, **options):
    """A handle, and the other end of its socket."""
    kept = []
    pair = socket.socketpair

    def keeping():
        ours, theirs = pair()
        kept.append(theirs.dup())
        return ours, theirs

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", keeping)
        patch.setattr("sys.executable", "/bin/true")
        worker = Worker([POLICY], 60, **options)
    receive_frame(kept[0])
    return worker, kept[0]


@pytest.fixture
def liar(monkeypatch):
    worker, end = lying(monkeypatch, decode_bytes=1 << 20)
    send_frame(end, {"ready": True})
    assert worker.hear() is None
    worker.give(4, "a.png", b"content")
    request, content = receive_frame(end)
    assert request == {"number": 4, "path": "a.png", "given": True, "policy": 0}
    assert content == b"content"
    with end:
        yield worker, end
    worker.close()


def test_an_honest_answer(liar):
    worker, end = liar
    send_frame(end, HONEST, bytes(range(24)))
    number, reading = worker.hear()
    assert (number, reading.path, reading.width, reading.height) == (4, "a.png", 5, 7)
    assert np.array_equal(reading.pixels, np.arange(24).reshape(3, 2, 4))
    assert reading.statistics.tolist() == [0.1, 1e-300]
    assert reading.severities.tolist() == [0.5, 1, 2, 3, 4, 50]
    assert not worker.tasks


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, bytes(23)),
        ({"shape": [3, 2, 5]}, bytes(24)),
        ({"shape": [3, -2, -4]}, bytes(24)),
        ({"shape": [2, 3, 4]}, bytes(24)),
        ({"shape": [3, 8]}, bytes(24)),
        ({"shape": [3, 1, 1], "dtype": "object"}, bytes(24)),
        ({"shape": [3, 1, 1], "dtype": "float64"}, bytes(24)),
        ({"colors_last": True}, bytes(24)),
        ({"width": "wide"}, bytes(24)),
        ({"seconds": None}, bytes(24)),
        ({"statistics": [[1], 2]}, bytes(24)),
        ({"severities": [1, 2]}, bytes(24)),
        ({"severities": [1, 2, 3, 4, 5, float("nan")]}, bytes(24)),
        ({"needed": "much"}, b""),
    ],
)
def test_an_answer_that_makes_no_sense(liar, changes, body):
    worker, end = liar
    send_frame(end, HONEST | changes, body)
    with pytest.raises(WorkerDeathError, match="answer is invalid"):
        worker.hear()
    assert list(worker.tasks) == [(4, "a.png")]  # left for another process


@pytest.mark.parametrize(
    "said",
    [
        b"\x02\0\0\0" + bytes(8) + b"[]",
        b"\x02\0\0\0" + bytes(8) + b"{{",
        b"\x02\0\0\0" + b"\xff" * 8 + b"{}",  # more bytes than allowed for an image
        b"\xff\xff\xff\xff" + bytes(8),
    ],
)
def test_a_frame_that_is_none(liar, said):
    worker, end = liar
    end.sendall(said)
    with pytest.raises(WorkerDeathError, match="answer is invalid"):
        worker.hear()


def test_an_answer_that_nothing_was_asked_for(liar):
    worker, end = liar
    for _ in range(2):
        send_frame(end, HONEST, bytes(24))
    worker.hear()
    with pytest.raises(WorkerDeathError, match="answer is invalid"):
        worker.hear()


def test_pixels_in_a_file_must_not_be_cut_short_while_they_are_read(liar):
    worker, end = liar
    handle = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.write(handle, bytes(24))
    send_frame(end, HONEST, handle=handle)
    os.close(handle)
    with pytest.raises(WorkerDeathError, match="answer is invalid"):
        worker.hear()


def test_pixels_in_a_file_stay_as_they_are(liar):
    worker, end = liar
    sealed = file_in_memory(memoryview(bytes(24)))
    send_frame(end, HONEST, handle=sealed)
    assert not worker.hear()[1].pixels.any()
    for change in (lambda: os.ftruncate(sealed, 1), lambda: os.pwrite(sealed, b"x", 0)):
        with pytest.raises(PermissionError):
            change()
    os.close(sealed)


def test_an_answer_in_time_counts_when_it_is_heard_late(monkeypatch, liar):
    worker, end = liar
    send_frame(end, HONEST, bytes(24))
    worker.deadline = time.monotonic() - 5
    assert worker.hear()[0] == 4
    worker.give(5, "b.png")
    worker.deadline = time.monotonic() - 5
    with pytest.raises(WorkerDeathError) as death:
        worker.hear()
    assert death.value.late
