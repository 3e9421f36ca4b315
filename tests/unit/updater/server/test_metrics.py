"""What `/metrics` says of a repository, read by the library that Prometheus' own client brings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import anyio
import httpx
from prometheus_client.parser import text_string_to_metric_families

from keys.roles import TufRole
from tests.fakes.builds import NOW, Publisher
from tests.fakes.clock import FakeClock
from updater.server.app import create_app


def ask(base: Path, *, after: timedelta = timedelta()) -> dict[tuple[str, str], float]:
    """The values by metric and role."""

    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(base, clock=FakeClock(NOW + after)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/metrics")

    answer = anyio.run(fetch)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(sample.name, sample.labels["role"]): sample.value for family in families for sample in family.samples}


def test_every_role_has_its_version_its_expiry_and_whether_it_holds(tmp_path: Path) -> None:
    workshop = Publisher.make(tmp_path)
    workshop.publish("1.0.0")
    found = ask(workshop.base)
    for role in TufRole:
        assert found["twinhull_role_valid", role.value] == 1
        assert found["twinhull_role_expires_seconds", role.value] > NOW.timestamp()
    assert found["twinhull_role_version", "releases"] == 2


def test_what_is_expired_or_gone_is_not_valid(tmp_path: Path) -> None:
    workshop = Publisher.make(tmp_path)
    late = ask(workshop.base, after=timedelta(days=30))
    assert (late["twinhull_role_valid", "timestamp"], late["twinhull_role_valid", "root"]) == (0, 1)
    (workshop.base / "metadata/timestamp.json").write_text("{")
    gone = ask(workshop.base)
    assert gone["twinhull_role_valid", "timestamp"] == 0
    assert ("twinhull_role_expires_seconds", "timestamp") not in gone


def test_an_empty_folder_answers_too(tmp_path: Path) -> None:
    assert set(ask(tmp_path).values()) == {0}
