"""`/healthz`: whether hosts can update from here.

Answers 200 while the timestamp exists and is valid, else 503; the timestamp expires first when nobody refreshes.
The signature is not checked here: the server has no keys to check it, and hosts check it themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bedrock.clock import Clock

_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class ServerHealth:
    """The answer of `/healthz`."""

    ok: bool
    timestamp_version: int | None
    timestamp_expires: str | None
    problem: str | None


def health_routes(repository: Path, clock: Clock) -> list[Route]:
    """The route of `/healthz`."""

    async def endpoint(_request: Request) -> Response:
        health = await to_thread.run_sync(read_health, repository, clock.now())
        body = {
            "ok": health.ok,
            "problem": health.problem,
            "timestamp": {"version": health.timestamp_version, "expires": health.timestamp_expires},
        }
        return JSONResponse(body, status_code=200 if health.ok else 503, headers={"cache-control": "no-store"})

    return [Route("/healthz", endpoint, methods=["GET"])]


def read_health(repository: Path, now: datetime) -> ServerHealth:
    """Read the repository's timestamp and judge it."""
    try:
        content = (repository / "metadata" / "timestamp.json").read_bytes()
    except OSError as error:
        return ServerHealth(
            ok=False, timestamp_version=None, timestamp_expires=None, problem=f"no timestamp: {error.strerror}"
        )
    return judge(content, now)


def judge(timestamp: bytes, now: datetime) -> ServerHealth:
    """Whether a timestamp document is readable and valid at `now`.  Pure."""
    try:
        signed = json.loads(timestamp)["signed"]
        version, text = int(signed["version"]), str(signed["expires"])
        expires = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    except (ValueError, KeyError, TypeError):
        return ServerHealth(
            ok=False, timestamp_version=None, timestamp_expires=None, problem="the timestamp is not readable"
        )
    problem = None if now < expires else f"the timestamp expired at {text}"
    return ServerHealth(ok=problem is None, timestamp_version=version, timestamp_expires=text, problem=problem)
