"""`/metrics`: what `/healthz` says, as numbers for Prometheus (text format 0.0.4).

A repository whose timer stopped is seen days before its first host refuses it: alert on
`twinhull_role_expires_seconds - time()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from anyio import to_thread
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bedrock.clock import Clock
from updater.server.health import EXPIRY_FORM, ServerHealth, read_health

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Roles:
    """The state of every role at one moment, as Prometheus collects it."""

    def __init__(self, health: ServerHealth) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """One value per role and metric; a document that cannot be read has no version and no expiry."""
        valid = GaugeMetricFamily("twinhull_role_valid", "Whether hosts accept the role's document.", labels=["role"])
        version = GaugeMetricFamily("twinhull_role_version", "Version of the role's document.", labels=["role"])
        expires = GaugeMetricFamily(
            "twinhull_role_expires_seconds", "When the role's document expires, in Unix time.", labels=["role"]
        )
        for name, role in self._health.roles.items():
            valid.add_metric([name], float(role.problem is None))
            if role.version is not None and role.expires is not None:
                version.add_metric([name], role.version)
                moment = datetime.strptime(role.expires, EXPIRY_FORM).replace(tzinfo=UTC)
                expires.add_metric([name], moment.timestamp())
        yield from (valid, version, expires)


def metrics_routes(repository: Path, clock: Clock) -> list[Route]:
    """The route of `/metrics`."""

    async def endpoint(_request: Request) -> Response:
        health = await to_thread.run_sync(read_health, repository, clock.now())
        registry = CollectorRegistry()
        registry.register(_Roles(health))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"})

    return [Route("/metrics", endpoint, methods=["GET"])]
