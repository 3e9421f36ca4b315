"""A host that can remember nothing: what bounds its tries is on the disk that it boots from.

The state folder takes nothing, and what is kept in memory is gone with each boot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bedrock.progress import Silent
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent
from updater.agent.config import Config
from updater.agent.plan import Plan, Update, UpdateOptions
from updater.agent.store import HintStore
from updater.documents.channel import Instant

RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1", "1.0.2")}
DAYS = 12


@dataclass
class Forgetful:
    """A host whose `/var` takes nothing."""

    machine: FakeMachine
    server: FakeServer
    agent: Agent
    volatile: Path
    installed: int = 0

    def start(self) -> Version | None:
        self.volatile.unlink(missing_ok=True)
        version = self.machine.power_cycle()
        if version is not None:
            self.agent.book_boot()
        return version

    def poll(self, **options: Any) -> Plan:
        plan = self.agent.update(UpdateOptions(**options), Silent()).plan
        self.installed += isinstance(plan, Update)
        return plan

    def days(self, judge: str) -> None:
        """Polls and boots of many days, in which every trial ends in one way."""
        for _ in range(DAYS):
            running = self.machine.host.running.release.version
            if self.agent.facts().blessed:
                self.poll()
            elif judge == "unhealthy":
                self.agent.unhealthy("it is sick", force=False)
            assert str(running) in RELEASES
            self.start()


@pytest.fixture
def host(tmp_path: Path) -> Forgetful:
    machine = FakeMachine(TwinHost(RELEASES["1.0.0"]))
    for one in RELEASES.values():
        machine.host.know(one)
    (tmp_path / "lib").touch()
    store = HintStore(tmp_path / "lib/state.json", tmp_path / "run/state.json", clock=machine.clock)
    server = FakeServer(channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START)), dict(RELEASES))
    agent = Agent(machine, Config(url="http://server", channel="stable"), store, tmp_path / "run/lock", server)
    return Forgetful(machine, server, agent, tmp_path / "run/state.json")


@pytest.mark.parametrize("judge", ["unhealthy", "dies"])
def test_a_version_that_fails_is_installed_once_although_nothing_can_be_remembered(host: Forgetful, judge: str) -> None:
    host.days(judge)
    assert str(host.machine.host.running.release.version) == "1.0.0"
    assert host.installed == 1
