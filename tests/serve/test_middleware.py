"""Access rules: each rule by itself, without a server."""

import asyncio
import json

import pytest

pytest.importorskip("starlette", reason="the service needs the extra 'serve'")

from qfm_iqm.serve.middleware import LOOPBACK, AccessMiddleware, is_loopback


async def _inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def answer(headers, *, path="/v1/score", method="POST", **options):
    """Status, headers and body that an application behind it gives."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(AccessMiddleware(_inner, **options)(scope, None, send))
    found = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("LOCALHOST", 200),
        ("localhost.elsewhere.example", 421),
        ("elsewhere.example", 421),
        ("user@localhost", 200),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_hosts_on_loopback(host, code):
    status, headers, body = answer({"Host": host}, hosts=LOOPBACK)
    assert status == code
    assert "content-security-policy" in headers  # refusals have the headers too
    assert (body == b"inside") == (code == 200)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.0.0.2", True), ("127.255.0.9", True), ("::1", True),
        ("localhost", True), ("Localhost", True), ("0.0.0.0", False), ("::", False),
        ("128.0.0.1", False), ("photos.example", False), ("127.0.0.1.example", False), ("", False),
    ],
)  # fmt: skip
def test_addresses_of_this_machine_alone(host, local):
    assert is_loopback(host) == local


def test_any_host_where_none_is_named():
    assert answer({"Host": "photos.example"})[0] == 200


@pytest.mark.parametrize(
    ("headers", "method", "code"),
    [
        ({"Origin": "http://here:1"}, "POST", 200),
        ({"Origin": "https://here:1"}, "POST", 200),
        ({"Origin": "http://here:2"}, "POST", 403),
        ({"Origin": "http://elsewhere"}, "GET", 403),
        ({"Origin": "null"}, "POST", 403),
        ({"Sec-Fetch-Site": "same-origin"}, "POST", 200),
        ({"Sec-Fetch-Site": "none"}, "GET", 200),
        ({"Sec-Fetch-Site": "cross-site"}, "POST", 403),
        ({"Sec-Fetch-Site": "same-site"}, "POST", 403),
        ({"Sec-Fetch-Site": "cross-site"}, "GET", 200),  # a link from elsewhere
        ({"Sec-Fetch-Site": "cross-site"}, "HEAD", 200),
    ],
)
def test_pages_of_other_sites(headers, method, code):
    assert answer({"Host": "here:1"} | headers, method=method)[0] == code


@pytest.mark.parametrize(
    ("path", "given", "code"),
    [
        ("/v1/score", "Bearer right-token", 200),
        ("/v1/score", "bearer  right-token", 200),
        ("/v1/score", "Bearer wrong-token", 401),
        ("/v1/score", "Bearer ", 401),
        ("/v1/score", "Basic right-token", 401),
        ("/v1/score", "", 401),
        ("/metrics", "", 401),
        ("/anything", "", 401),
        ("/", "", 200),
        ("/docs", "", 200),
        ("/healthz", "", 200),
        ("/static/page.js", "", 200),
    ],
)
def test_the_token(path, given, code):
    status, headers, body = answer({"Authorization": given}, path=path, token="right-token")
    assert status == code
    if code == 401:
        assert headers["www-authenticate"] == "Bearer"
        assert "token" in json.loads(body)["error"]
