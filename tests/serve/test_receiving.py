"""What requests may contain, and how much at once."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="the service needs the extra 'serve'")

from starlette.requests import Request

from qfm_iqm.serve.limits import Limits
from qfm_iqm.serve.receiving import Admission, RequestError, declared_size, receive

LIMITS = Limits(
    file_bytes=100, request_bytes=1000, files=2, pending_bytes=1500, pending_images=3,
    receive_seconds=0.2,
)  # fmt: skip


GONE = object()


def request(headers, pieces=()):
    """A request whose body comes in pieces; None is a client that waits, GONE one that leaves."""
    coming = iter(pieces)

    async def receive_piece():
        piece = next(coming, b"")
        if piece is None:
            await asyncio.sleep(60)
        if piece is GONE:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
    return Request(scope, receive_piece)


def refused(awaitable):
    with pytest.raises(RequestError) as error:
        asyncio.run(awaitable)
    return error.value.code


def multipart(*files, field="files"):
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    )
    return {"Content-Type": "multipart/form-data; boundary=b"}, [body + b"--b--\r\n"]


cut = multipart(("a", b"1"), ("b", bytes(50)))


def test_a_body_is_one_image():
    (upload,) = asyncio.run(receive(request({"X-File-Name": "a.jpg"}, [b"12", b"34"]), LIMITS))
    assert (upload.name, upload.content) == ("a.jpg", b"1234")
    (upload,) = asyncio.run(receive(request({}, [b"1"]), LIMITS))
    assert upload.name == "image"


def test_files_keep_their_order_and_bytes():
    files = [("b.jpg", bytes(range(256))), ("../a.jpg", b"\r\n--c--")]
    uploads = asyncio.run(receive(request(*multipart(*files)), LIMITS))
    assert [(upload.name, upload.content) for upload in uploads] == files


@pytest.mark.parametrize(
    ("headers", "pieces", "code"),
    [
        ({}, [], 400),
        ({}, [b"x" * 60, b"x" * 60], 413),
        ({}, [b"x", None], 408),
        ({}, [b"x", GONE], 499),
        ({"Content-Type": "multipart/form-data; boundary=b"}, [b"--b\r\n", GONE], 499),
        (*multipart(("a", b"1"), ("b", b"2"), ("c", b"3")), 413),
        (*multipart(), 400),
        ({"Content-Type": "multipart/form-data"}, [b"x"], 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, [b"no multipart"], 400),
        (*multipart(("a", bytes(600)), ("b", bytes(600))), 413),
        (cut[0], [cut[1][0][:-20]], 400),
    ],
    ids=[
        "nothing",
        "large",
        "slow",
        "gone",
        "gone amid a form",
        "many",
        "no files",
        "no boundary",
        "broken",
        "large form",
        "cut off",
    ],
)
def test_what_is_refused(headers, pieces, code):
    assert refused(receive(request(headers, pieces), LIMITS)) == code


@pytest.mark.parametrize(
    ("headers", "size"), [({"Content-Length": "7"}, 7), ({}, 1000), ({"Content-Length": "0"}, 0)]
)
def test_the_declared_size(headers, size):
    assert declared_size(request(headers), LIMITS) == size


@pytest.mark.parametrize(("length", "code"), [("1001", 413), ("-1", 400), ("1e3", 400), ("", 400)])
def test_a_declared_size_that_is_refused(length, code):
    with pytest.raises(RequestError) as error:
        declared_size(request({"Content-Length": length}), LIMITS)
    assert error.value.code == code


def test_admission_counts_and_lets_go():
    admission = Admission(LIMITS)
    size, images = admission.bytes, admission.images
    with size.counted(1000):
        with size.counted(500):
            with pytest.raises(RequestError) as error, size.counted(1):
                pass
            assert error.value.code == 429
        assert size.count == 1000
    assert size.count == 0
    with size.counted(9999):  # a single request is always admitted
        pass
    with images.counted(2):
        with pytest.raises(RequestError), images.counted(2):
            pass
        with images.counted(1):
            assert images.count == 3
    with pytest.raises(ZeroDivisionError), size.counted(5):
        _ = 1 / 0
    assert (size.count, images.count) == (0, 0)
