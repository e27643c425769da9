"""Frames arrive unchanged, in time or not at all."""

import os
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.image.wire import file_in_memory, receive_frame, send_frame

headers = st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(0, 1)))


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@settings(max_examples=40)
@given(st.lists(st.tuples(headers, st.binary(max_size=200)), max_size=4))
def test_frames_come_out_as_they_went_in(frames):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for header, body in frames:
            send_frame(theirs, header, body)
        theirs.shutdown(socket.SHUT_WR)
        assert [receive_frame(ours) for _ in frames] == frames
        with pytest.raises(EOFError):
            receive_frame(ours)


def test_a_body_that_is_longer_than_a_socket_holds(ends):
    ours, theirs = ends
    body = os.urandom(5_000_000)
    sender = threading.Thread(target=send_frame, args=(theirs, {}, body))
    sender.start()
    assert receive_frame(ours) == ({}, body)
    sender.join()


@pytest.mark.parametrize("whole", [True, False])
def test_what_does_not_come_in_time(ends, whole):
    ours, theirs = ends
    if not whole:
        theirs.sendall(b"\1\0")
    with pytest.raises(TimeoutError):
        receive_frame(ours, deadline=time.monotonic() + 0.2)


def test_a_file_in_memory_in_place_of_the_body(ends):
    ours, theirs = ends
    handle = file_in_memory(memoryview(b"pixels"))
    send_frame(theirs, {"a": 1}, handle=handle)
    os.close(handle)
    send_frame(theirs, {"a": 2}, b"bytes")
    header, body = receive_frame(ours)
    assert (header, body[:]) == ({"a": 1}, b"pixels")
    assert receive_frame(ours) == ({"a": 2}, b"bytes")
