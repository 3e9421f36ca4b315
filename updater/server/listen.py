"""Runs the application: binds, serves, ends gracefully.

Rules: the address is bound before anything is announced, so port 0 works and a script can wait for one line;
a signal lets running answers end, within limits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from updater.errors import UpdaterError

SHUTDOWN_LIMIT_S = 10
KEEP_ALIVE_S = 30
BACKLOG = 512


@dataclass(frozen=True)
class Bound:
    """A listening socket and the address it really has."""

    listener: socket.socket
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as the start of a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def bind(host: str, port: int) -> Bound:
    """Bind and listen; port 0 takes any free one.

    Raises:
        UpdaterError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"cannot listen on {host} port {port}: {error.strerror or error}"
        raise UpdaterError(message).with_hint(
            "choose another one with --host and --port; port 0 takes a free one"
        ) from error
    return Bound(listener, host, listener.getsockname()[1])


class AnnouncingServer(uvicorn.Server):
    """Calls back once requests are being answered."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report."""
        await super().startup(sockets)
        self._announce()


def make_server(app: ASGIApp, announce: Callable[[], None]) -> AnnouncingServer:
    """A server for `app` that is not running yet; `should_exit` ends it."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
    )
    return AnnouncingServer(config, announce)


def serve(app: ASGIApp, bound: Bound, announce: Callable[[], None]) -> None:
    """Answer requests until SIGINT or SIGTERM, then return, because a signal is not a failure."""
    server = make_server(app, announce)
    with bound.listener:
        try:
            server.run(sockets=[bound.listener])
        except (KeyboardInterrupt, SystemExit):
            # uvicorn raises the signal again after an orderly shutdown; every other exception is passed on.
            if not (server.started and server.should_exit):
                raise
