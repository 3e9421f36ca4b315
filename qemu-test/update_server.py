"""The real update server on the loopback, which a test can point at another repository and let break off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from updater.server.app import create_app
from updater.server.listen import bind, make_server

_START_TIMEOUT_S = 20
_STALL_S = 0.2
# How QEMU's user network calls this host's loopback.
HOST_SEEN_BY_GUEST = "10.0.2.2"


class BrokenOffError(Exception):
    """Thrown into an answer to end its connection in the middle."""


@dataclass(frozen=True)
class AnsweredRequest:
    """The requests of a host."""

    path: str
    range: str | None


class UpdateServer:
    """An ASGI application around the real one.

    `breaks` holds, per answer to come that carries an object, after how many bytes it breaks off; a request for the
    first bytes of one does not count.  `gone` lets every answer break off before its first byte, which
    `vanish_when_broken_off` brings about by itself.  While `stalls` is set, an object stops after its first bytes, and
    `stalled` says that one has.
    """

    def __init__(self, repository: Path) -> None:
        self._app: ASGIApp = create_app(repository)
        self.port = 0
        self.requests: list[AnsweredRequest] = []
        self.breaks: list[int] = []
        self.broken_off = 0
        self.gone = threading.Event()
        self.stalls = threading.Event()
        self.stalled = threading.Event()
        self.vanish_when_broken_off = False

    @property
    def guest_url(self) -> str:
        """The server's URL as a guest writes it."""
        return f"http://{HOST_SEEN_BY_GUEST}:{self.port}"

    def serve(self, repository: Path) -> None:
        """Serve another repository from now on."""
        self._app = create_app(repository)

    def asked_for(self, part: str, *, since: int = 0) -> list[AnsweredRequest]:
        """The requests whose path holds `part`, from the `since`-th request on."""
        return [request for request in self.requests[since:] if part in request.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        headers = dict(scope.get("headers") or [])
        wanted = headers.get(b"range")
        self.requests.append(AnsweredRequest(scope["path"], wanted.decode() if wanted else None))
        if self.gone.is_set():
            self.broken_off += 1
            raise BrokenOffError(scope["path"])
        whole = scope["path"].startswith("/objects/") and not (wanted and wanted.startswith(b"bytes=0-"))
        limit = self.breaks.pop(0) if self.breaks and whole else None
        if self.stalls.is_set() and scope["path"].startswith("/objects/"):
            await self._app(scope, receive, self._stalling(send))
            return
        await self._app(scope, receive, send if limit is None else self._limited(send, limit))

    def _stalling(self, send: Send) -> Send:
        async def stalling(message: Message) -> None:
            if message.get("body"):
                self.stalled.set()
                while self.stalls.is_set():  # noqa: ASYNC110 - set and cleared by other threads
                    await anyio.sleep(_STALL_S)
            await send(message)

        return stalling

    def _limited(self, send: Send, limit: int) -> Send:
        left = limit

        async def limited(message: Message) -> None:
            nonlocal left
            left -= len(message.get("body", b""))
            if left < 0:
                self.broken_off += 1
                if self.vanish_when_broken_off:
                    self.gone.set()
                raise BrokenOffError("enough")
            await send(message)

        return limited


@contextmanager
def running(server: UpdateServer) -> Iterator[UpdateServer]:
    """Let a server listen on a free port of the loopback."""
    bound = bind("127.0.0.1", 0)
    server.port = bound.port
    answering = threading.Event()
    program = make_server(server, answering.set)
    thread = threading.Thread(target=program.run, kwargs={"sockets": [bound.listener]}, daemon=True)
    thread.start()
    try:
        assert answering.wait(_START_TIMEOUT_S), "the update server did not start"
        yield server
    finally:
        program.should_exit = True
        thread.join(_START_TIMEOUT_S)
        bound.listener.close()
