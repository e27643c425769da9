import io

from hypothesis import given
from hypothesis import strategies as st

from qfm_iqm.serve.frames import LENGTHS_SIZE, lengths, packed, read_frame

headers = st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers()))


@given(st.lists(st.tuples(headers, st.binary(max_size=200)), max_size=4))
def test_frames_come_out_as_they_went_in(frames):
    stream = io.BytesIO(b"".join(packed(header, len(body)) + body for header, body in frames))
    assert [read_frame(stream) for _ in frames] == frames
    assert read_frame(stream) is None


@given(headers, st.integers(0, 2**40))
def test_the_start_says_how_much_comes(header, size):
    frame = packed(header, size)
    assert lengths(frame[:LENGTHS_SIZE]) == (len(frame) - LENGTHS_SIZE, size)
