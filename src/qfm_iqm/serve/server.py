"""Runs the service in this process: socket, signals, shutdown."""

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from qfm_iqm.errors import QFMError

GRACE_SECONDS = 60
CONNECTIONS = 512  # simultaneous connections; processes often have only 1024 file descriptors


class _Server(uvicorn.Server):
    """Uvicorn server that exits with code 0 on a signal, and reports when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles the signals without raising them again at the end."""
        named = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in named}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def listen(host: str, port: int) -> socket.socket:
    """Opens a listening socket.

    Raises:
        QFMError: the address is in use or not on this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = error.strerror or str(error)
        raise QFMError(f"The service cannot listen on {host} port {port}: {reason}.") from error


def run(app: FastAPI, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM; running requests are then finished.

    Args:
        app: the application.
        listener: its listening socket.
        ready: called once it accepts requests.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
    )
    # The service has no WebSockets, so uvicorn's advice to install a library for them is wrong.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "WebSocket library" not in record.getMessage()
    )
    server = _Server(config, ready)
    server.run(sockets=[listener])
    if not server.started:  # uvicorn's log says why
        raise QFMError("The service did not start: see the lines above.")
