"""Who may ask, and what every answer carries: hosts, origins, the token, security headers.

* On loopback only requests for a loopback name are answered: a page elsewhere cannot reach the
  service through a name of its own that it points here (DNS rebinding).
* A request that a browser sends from another site's page is refused, whatever it asks for.
* With a token, everything but the page, its files and `/healthz` asks for it.
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
    """ASGI middleware around the application.

    Args:
        app: the application.
        hosts: names that requests may be for; None for any.
        token: asked for if given.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] | None = None, token: str | None = None
    ) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(hosts)
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
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
            return 421, "This service answers on its own machine's names alone, as localhost."
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
            return 401, "This service asks for its token: Authorization: Bearer TOKEN."
        return None


def is_loopback(host: str) -> bool:
    """Whether who listens on an address is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host.lower() in LOOPBACK


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that do not close
        return ""
