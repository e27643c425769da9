import socket

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--host", "0.0.0.0"], "others can reach the service: give --token"),
        (["--host", ""], "--host is empty: name an address"),
        (["--token", "short"], "A token must have at least 8 characters"),
        (["--host", "192.0.2.1", "--no-token"], "cannot listen on 192.0.2.1"),
        (["--max-megapixels", "inf"], "--max-megapixels must be a finite number"),
        (["--max-file-mb", "inf"], "--max-file-mb must be a finite number"),
        (["--max-request-mb", "inf"], "--max-request-mb must be a finite number"),
        (["--max-file-mb", 500], "--max-file-mb 500 exceeds --max-request-mb 200: a file cannot"),
        (["--model", "gone"], "There is no model 'gone'"),
    ],
)
def test_mistakes_are_one_sentence(qfm, options, sentence):
    answer = qfm("serve", "--port", 0, *options)
    assert answer.code == 2
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_taken_port_is_said(qfm):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = qfm("serve", "--port", port)
    assert answer.code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in answer.err
