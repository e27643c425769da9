"""URLs, from servers on this machine."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qfm_iqm.errors import ImageError
from qfm_iqm.image import fetch as fetch_module
from qfm_iqm.image.fetch import fetch_url
from qfm_iqm.image.load import fetch

CONTENT = bytes(range(256)) * 20_000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["User-Agent"]))
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.end_headers()
        elif path == "/to-a-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif path.startswith("/status/"):
            self.send_error(int(path.rpartition("/")[2]))
        elif path == "/silent":
            self.server.ended.wait(20)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if path == "/slow":
                while not self.server.ended.wait(0.05):
                    self.wfile.write(b"x")
            else:
                self.wfile.write(CONTENT[: 1000 if path == "/cut" else None])

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.asked, server.ended = [], threading.Event()
        server.host = f"127.0.0.1:{server.server_port}"
        server.url = f"http://{server.host}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


@pytest.mark.parametrize("path", ["/whole", "/moved", "/image?id=7&size=large", "/", ""])
def test_the_content_of_an_address(server, path):
    assert fetch_url(server.url + path) == CONTENT
    assert server.asked[0][0] == (path or "/")
    assert server.asked[0][1] == "qfm-iqm"


def test_what_an_address_cannot_hold_is_escaped(server):
    assert fetch_url(f"{server.url}/a b/тень.png?x=%20#top") == CONTENT
    assert server.asked[0][0] == "/a%20b/%D1%82%D0%B5%D0%BD%D1%8C.png?x=%20"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/status/404", "{host} answered 404 Not Found"),
        ("/status/403", "{host} answered 403 Forbidden"),
        ("/status/503", "{host} answered 503 Service Unavailable"),
        ("/cut", "{host} closed the connection before the end"),
        ("/to-a-file", "{host} answered 302 "),
    ],
)
def test_what_a_server_does_not_give(server, path, reason):
    with pytest.raises(ImageError) as caught:
        fetch_url(server.url + path)
    assert str(caught.value).startswith(reason.format(host=server.host))
    with pytest.raises(ImageError) as named:
        fetch(server.url + path)
    assert str(named.value) == f"cannot read '{server.url}{path}': {caught.value}"


def test_a_server_that_says_nothing(server, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.2)
    with pytest.raises(ImageError, match=rf"^{server.host} timed out: no answer within 0\.2 s$"):
        fetch_url(f"{server.url}/silent")


def test_a_server_that_never_ends(server, monkeypatch):
    monkeypatch.setattr(fetch_module, "LONGEST", 0.2)
    with pytest.raises(ImageError, match=rf"^{server.host} took longer than 0\.2 s$"):
        fetch_url(f"{server.url}/slow")


def test_a_server_that_hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"

        def hang_up():
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(ImageError, match=f"^{host} closed the connection before the end$"):
            fetch_url(f"http://{host}/a.png")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://nowhere.invalid/a.png", "the host nowhere.invalid was not found"),
        ("http://127.0.0.1:1/a.png", "127.0.0.1:1 cannot be reached: Connection refused"),
        ("http://127.0.0.1:port/a.png", "this is not an address that can be fetched"),
        ("http://[half/a.png", "this is not an address that can be fetched"),
        ("http://", "this is not an address that can be fetched"),
        ("http:///a.png", "this is not an address that can be fetched"),
        ("nothing-known://x", "Protocol not known: nothing-known"),
        ("memory://gone/a.png", "there is no such file"),
        ("file:///", "it is a folder"),
    ],
)
def test_where_nothing_is(url, reason):
    with pytest.raises(ImageError) as caught:
        fetch_url(url)
    assert str(caught.value) == reason
