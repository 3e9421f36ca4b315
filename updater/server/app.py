"""Putting the server's parts together."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bedrock.clock import SYSTEM_CLOCK, Clock
from updater.server.access import AccessLog
from updater.server.files import file_routes
from updater.server.health import health_routes
from updater.server.metrics import metrics_routes


def create_app(repository: Path, *, clock: Clock = SYSTEM_CLOCK) -> Starlette:
    """The ASGI application that serves a repository.

    Args:
        repository: The folder with `metadata`, `targets` and `objects`.
        clock: Where the time comes from.
    """
    return Starlette(
        routes=[
            *file_routes(repository),
            *health_routes(repository, clock),
            *metrics_routes(repository, clock),
        ],
        middleware=[Middleware(AccessLog)],
        exception_handlers={HTTPException: _plain_error},
    )


async def _plain_error(_request: Request, error: Exception) -> Response:
    """An error as a line of text that must not be cached: a file missing now may be published in a minute."""
    if not isinstance(error, HTTPException):
        raise TypeError(f"not an HTTP error: {error!r}")
    headers = {**(error.headers or {}), "cache-control": "no-store"}
    return PlainTextResponse(f"{error.detail}\n", status_code=error.status_code, headers=headers)
