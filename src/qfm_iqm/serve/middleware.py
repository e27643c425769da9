"""Access checks (hosts, origins, token) and security headers.

* On loopback only requests for a loopback name are answered, so that another site cannot reach the
  service through its own name (DNS rebinding).
* Requests that a browser sends from another site's page are refused; only links are allowed.
* If a token is set, everything except the page, its files and `/healthz` requires it.
"""

import hmac
import ipaddress
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/favicon.ico"})


class AccessMiddleware:
    """ASGI middleware that checks requests and adds security headers.

    Args:
        app: the application.
        hosts: allowed host names; None allows any.
        token: required token; None requires none.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] | None = None, token: str | None = None
    ) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(hosts)
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on or refuses it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_safely)
            return
        code, sentence = refusal
        body = json.dumps({"error": sentence}).encode()
        headers = [(b"content-type", b"application/json")]
        if code == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send_safely({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return 421, "This service answers only to its own machine's names, such as localhost."
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign or (elsewhere and scope["method"] not in ("GET", "HEAD")):  # links are fine
            return 403, "Requests from pages of other sites are not answered."
        path = scope["path"]
        if self.token is None or path in _OPEN or path.startswith("/static/"):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if kind.lower() != "bearer" or not right:
            return 401, "This service requires its token: Authorization: Bearer TOKEN."
        return None


def is_loopback(host: str) -> bool:
    """Whether an address is reachable only from its own machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # it is a name
        return host.lower() in LOOPBACK


def _name(host: str) -> str:
    """The name in a Host header without its port; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # unbalanced brackets
        return ""
