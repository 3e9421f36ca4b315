"""One log line per request: client, request, answer, duration.

Rules: input from outside is quoted, so that no request can forge a line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = logging.getLogger("twinhull.access")


class AccessLog:
    """ASGI middleware that logs each HTTP request when its answer ended or was interrupted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer through the application, then log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        # As it was asked: what is ignored of it is taken away on the way.
        asked = dict(scope)
        status, sent = 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            sent += len(message.get("body", b""))

        try:
            await self._app(scope, receive, counting)
        finally:
            LOGGER.info(access_line(asked, status=status, sent=sent, seconds=time.monotonic() - started))


def access_line(scope: MutableMapping[str, Any], *, status: int, sent: int, seconds: float) -> str:
    """The line of one request; status 0 means it was interrupted before an answer began.  Pure."""
    client = scope.get("client")
    who = client[0] if client else "-"
    path = quote(scope["path"], safe="/~^")
    asked = dict(scope.get("headers") or []).get(b"range", b"").decode("latin-1")
    part = f" range={quote(asked, safe='=-,')}" if asked else ""
    return f"{who} {scope['method']} {path}{part} {status} {sent} bytes {seconds * 1000:.0f} ms"
