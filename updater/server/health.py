"""`/healthz`: whether hosts can update from here.

Answers 200 while every role's document is there and valid, else 503: when any of them has expired, every host refuses
what this repository says.
Signatures are not checked here: the server has no keys to check them, and hosts check them themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bedrock import strict
from bedrock.clock import Clock

EXPIRY_FORM = "%Y-%m-%dT%H:%M:%SZ"
_NAMED_BY_SNAPSHOT = ("targets", "releases", "channels")
_MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class RoleHealth:
    """A role's current document; `problem` says why hosts refuse it."""

    version: int | None = None
    expires: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ServerHealth:
    """The answer of `/healthz`."""

    roles: dict[str, RoleHealth]

    @property
    def problems(self) -> tuple[str, ...]:
        """Every reason for a host to refuse this repository."""
        return tuple(role.problem for role in self.roles.values() if role.problem)


def health_routes(repository: Path, clock: Clock) -> list[Route]:
    """The route of `/healthz`."""

    async def endpoint(_request: Request) -> Response:
        health = await to_thread.run_sync(read_health, repository, clock.now())
        body = {"ok": not health.problems, "problems": health.problems, "roles": strict.plain(health.roles)}
        return JSONResponse(body, status_code=503 if health.problems else 200, headers={"cache-control": "no-store"})

    return [Route("/healthz", endpoint, methods=["GET"])]


def read_health(repository: Path, now: datetime) -> ServerHealth:
    """Read the repository's metadata, each as the one above names it, and judge their expiry."""
    return ServerHealth(dict(_walk(repository / "metadata", now)))


def _walk(metadata: Path, now: datetime) -> Iterator[tuple[str, RoleHealth]]:
    timestamp = _signed(metadata / "timestamp.json")
    yield "timestamp", judge("timestamp", timestamp, now)
    snapshot = _named(metadata, "snapshot", timestamp)
    yield "snapshot", judge("snapshot", snapshot, now)
    for role in _NAMED_BY_SNAPSHOT:
        yield role, judge(role, _named(metadata, role, snapshot), now)
    yield "root", judge("root", _signed(metadata / f"{_newest_root(metadata)}.root.json"), now)


def judge(role: str, signed: Any, now: datetime) -> RoleHealth:
    """Whether the signed part of a document can be read and is valid at `now`.  Pure."""
    try:
        version, text = int(signed["version"]), str(signed["expires"])
        expires = datetime.strptime(text, EXPIRY_FORM).replace(tzinfo=UTC)
    except (ValueError, KeyError, TypeError):
        return RoleHealth(problem=f"the {role} metadata is missing or not readable")
    return RoleHealth(version, text, None if now < expires else f"the {role} metadata expired at {text}")


def _named(metadata: Path, role: str, above: Any) -> Any:
    """The signed part of the document of a role that another one names; None when there is none."""
    try:
        return _signed(metadata / f"{int(above['meta'][f'{role}.json']['version'])}.{role}.json")
    except (ValueError, KeyError, TypeError):
        return None


def _signed(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_MAX_BYTES))["signed"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _newest_root(metadata: Path) -> int:
    numbers = [path.name.partition(".")[0] for path in metadata.glob("*.root.json")]
    return max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=1)
