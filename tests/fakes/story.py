"""A host, its server and its agent, and what a test lets them do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedrock.progress import Silent
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent, UpdateOutcome
from updater.agent.config import Config
from updater.agent.plan import Nothing, Update, UpdateOptions, Why
from updater.agent.store import HintStore
from updater.documents.channel import Instant

RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1", "1.0.2")}


def v(text: str) -> Version:
    return Version.from_text(text)


@dataclass
class Story:
    machine: FakeMachine
    server: FakeServer
    agent: Agent

    def update(self, **options: Any) -> UpdateOutcome:
        return self.agent.update(UpdateOptions(**options), Silent())

    def why(self, **options: bool) -> Why:
        plan = self.update(**options).plan
        assert isinstance(plan, Nothing), plan
        return plan.why

    def start(self) -> str:
        """Boot and let twinhull-boot.service do its work."""
        version = self.machine.power_cycle()
        if version is None:
            return "dead"
        self.agent.book_boot()
        return str(version)

    def healthy(self) -> None:
        self.agent.bless()

    def update_to(self, version: str) -> None:
        self.server.point_to(version)
        assert isinstance(self.update().plan, Update)
        assert self.start() == version
        self.healthy()


def make_story(tmp_path: Path) -> Story:
    host = TwinHost(RELEASES["1.0.0"])
    for one in RELEASES.values():
        host.know(one)
    machine = FakeMachine(host)
    channel = channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START))
    server = FakeServer(channel, dict(RELEASES))
    config = Config(url="http://server", channel="stable")
    agent = Agent(machine, config, HintStore(tmp_path / "lib" / "state.json"), tmp_path / "run" / "lock", server)
    return Story(machine, server, agent)
