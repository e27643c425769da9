import io
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from qfm_iqm.image.containers import boxes, heif_colors, jp2_codestream, jp2_color


def box(kind, body):
    return struct.pack(">I", 8 + len(body)) + kind + body


def heif(*, primary=2, wide=False, long=False, joined=((2, 1), (1, 2))):
    """Properties 1 to 3, of which items have some; item 2 is the primary one by default."""
    item = ">I" if long else ">H"
    version = b"\1\0\0" if long else b"\0\0\0"
    properties = box(b"colr", b"nclxA") + box(b"colr", b"nclxB") + box(b"ispe", b"12345678")
    pairs = b"".join(
        struct.pack(item, number)
        + b"\1"
        + struct.pack(">H" if wide else ">B", index | (0x8000 if wide else 0x80))
        for number, index in joined
    )
    ipma = version + bytes([wide]) + struct.pack(">I", len(joined)) + pairs
    inside = box(b"pitm", version + b"\0" + struct.pack(item, primary))
    inside += box(b"iprp", box(b"ipco", properties) + box(b"ipma", ipma))
    return box(b"ftyp", b"mif1") + box(b"meta", bytes(4) + inside) + box(b"mdat", b"x")


def test_the_colors_of_the_primary_item():
    for wide in (False, True):
        for long in (False, True):
            data = heif(wide=wide, long=long)
            assert heif_colors(io.BytesIO(data)) == [b"nclxA"]
            data = heif(primary=1, wide=wide, long=long)
            assert heif_colors(io.BytesIO(data)) == [b"nclxB"]
    assert heif_colors(io.BytesIO(heif(joined=((2, 3),)))) == []
    assert heif_colors(io.BytesIO(heif(joined=((2, 9), (2, 0))))) == []
    assert heif_colors(io.BytesIO(heif(primary=7))) == []


def test_boxes_of_every_length():
    large = struct.pack(">I4sQ", 1, b"wide", 16 + 3) + b"abc"
    data = box(b"free", b"12") + large + struct.pack(">I4s", 0, b"last") + b"rest"
    found = [(kind, data[start:end]) for kind, start, end in boxes(io.BytesIO(data))]
    assert found == [(b"free", b"12"), (b"wide", b"abc"), (b"last", b"rest")]


def test_jp2():
    header = box(b"jp2h", box(b"ihdr", bytes(14)) + box(b"colr", b"one") + box(b"colr", b"two"))
    data = box(b"jP  ", b"1234") + header + box(b"jp2c", b"\xff\x4f\xff\x51")
    assert jp2_color(io.BytesIO(data)) == b"one"
    assert data[jp2_codestream(io.BytesIO(data)) :] == b"\xff\x4f\xff\x51"
    assert jp2_codestream(io.BytesIO(b"\xff\x4f\xff\x51...")) == 0
    assert jp2_color(io.BytesIO(b"\xff\x4f\xff\x51...")) == b""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(heif()) - 1), st.binary(min_size=1, max_size=12), st.integers(0, 200))
def test_any_bytes_give_colors_or_none(place, change, cut):
    data = bytearray(heif())
    data[place : place + len(change)] = change
    data = bytes(data[: len(data) - cut])
    assert isinstance(heif_colors(io.BytesIO(data)), list)
    assert isinstance(jp2_color(io.BytesIO(data)), bytes)
    for _, start, end in boxes(io.BytesIO(data)):
        assert 0 < start <= end <= len(data)
