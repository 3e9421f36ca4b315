"""What `/healthz` says of a repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from keys.roles import TufRole
from tests.fakes.builds import NOW, Publisher
from tests.fakes.clock import FakeClock
from tests.fakes.forgery import expire
from updater.server.app import create_app

DAY = timedelta(days=1)


@pytest.fixture
def workshop(tmp_path: Path) -> Publisher:
    made = Publisher.make(tmp_path)
    made.publish("1.0.0")
    return made


def ask(base: Path, *, after: timedelta = timedelta()) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer."""

    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(base, clock=FakeClock(NOW + after)))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/healthz")

    answer = anyio.run(fetch)
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()


def test_a_fresh_repository_is_healthy_and_every_role_is_shown(workshop: Publisher) -> None:
    status, body = ask(workshop.base)
    assert (status, body["ok"], body["problems"]) == (200, True, [])
    assert set(body["roles"]) == {role.value for role in TufRole}
    assert body["roles"]["releases"]["version"] == 2
    assert all(role["expires"] and role["problem"] is None for role in body["roles"].values())


@pytest.mark.parametrize("role", list(TufRole))
def test_any_expired_role_is_a_problem_by_its_name(workshop: Publisher, role: TufRole) -> None:
    expire(workshop, role)
    status, body = ask(workshop.base)
    assert (status, body["ok"]) == (503, False)
    assert body["roles"][role.value]["problem"].startswith(f"the {role.value} metadata expired at ")
    assert body["roles"][role.value]["problem"] in body["problems"]


def test_expiry_is_judged_now(workshop: Publisher) -> None:
    assert ask(workshop.base, after=6 * DAY)[0] == 200
    assert ask(workshop.base, after=7 * DAY)[0] == 503


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"signed": {"version": 1, "expires": "tomorrow"}}', "\x00"]
)
@pytest.mark.parametrize("name", ["timestamp.json", "1.root.json", "2.snapshot.json", "2.releases.json"])
def test_what_cannot_be_read_is_a_problem(workshop: Publisher, name: str, content: str) -> None:
    (workshop.base / "metadata" / name).write_text(content)
    status, body = ask(workshop.base)
    role = name.removesuffix(".json").rpartition(".")[2]
    assert status == 503
    assert f"the {role} metadata is missing or not readable" in body["problems"]


def test_no_repository_at_all_is_not_healthy(tmp_path: Path) -> None:
    status, body = ask(tmp_path)
    assert status == 503
    assert len(body["problems"]) == len(TufRole)


@pytest.mark.parametrize("version", ["../../x", None, {}, 10**30])
def test_a_version_that_is_no_number_leads_nowhere(workshop: Publisher, version: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        document["signed"]["meta"]["snapshot.json"]["version"] = version

    rewrite(workshop.base / "metadata" / "timestamp.json", change)
    assert "the snapshot metadata is missing or not readable" in ask(workshop.base)[1]["problems"]
