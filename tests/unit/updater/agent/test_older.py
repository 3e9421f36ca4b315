"""An older version that somebody put back on the disk is noticed, and one that was gone back to is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bedrock.progress import Silent
from partitions.layout import Slot
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.twin_host import TwinHost, built
from updater.agent import cli, older
from updater.agent.agent import Agent
from updater.agent.config import Config, Loaded
from updater.agent.plan import Update, UpdateOptions, Wait
from updater.agent.setting import Setting
from updater.agent.state import EventKind, Hints, Pin
from updater.agent.store import HintStore
from updater.documents.channel import Instant, Pace

NOW = Instant(START)
RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1", "1.0.2")}
CONFIG = Config(url="http://server", channel="stable")


class Host:
    """A host with a memory, on which `updater` runs."""

    def __init__(self, base: Path) -> None:
        self.store = HintStore(base / "state.json")
        self.server = FakeServer(channel_at(reference_to(RELEASES["1.0.1"].release), NOW), dict(RELEASES))
        self.lock = base / "lock"
        self.machine = self.disk_with("1.0.0")

    def disk_with(self, version: str) -> FakeMachine:
        """A disk on which this version alone is, in slot A, with the entry of a proven one."""
        host = TwinHost(RELEASES[version])
        for one in RELEASES.values():
            host.know(one)
        self.machine = FakeMachine(host)
        self.agent = Agent(self.machine, CONFIG, self.store, self.lock, self.server)
        return self.machine

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(cli.updater, words, standalone_mode=False, obj=Setting(self.agent, Loaded(CONFIG)))
        assert done.exception is None, done.exception
        return done.stdout

    def boot(self) -> None:
        self.machine.power_cycle()
        self.run("boot")

    def update_to(self, version: str) -> None:
        self.server.point_to(version)
        assert isinstance(self.agent.update(UpdateOptions(), Silent()).plan, Update)
        self.boot()
        self.run("bless")

    def noted(self) -> list[str]:
        return [event.text for event in self.store.load(NOW).history if event.kind is EventKind.OLDER]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_an_older_version_that_was_put_back_is_shown_and_in_the_history_once(host: Host) -> None:
    host.update_to("1.0.1")
    assert "older" not in host.run("status")
    host.disk_with("1.0.0")
    host.boot()
    host.boot()
    assert "older        1.0.0 runs and 1.0.1 was proven here before" in host.run("status")
    assert '"put_back_from": "1.0.1"' in host.run("status", "--json")
    assert len(host.noted()) == 1


def test_it_goes_on_to_the_newest_without_waiting_for_its_turn(host: Host) -> None:
    host.update_to("1.0.1")
    host.disk_with("1.0.0")
    host.boot()
    late = Pace(Instant.of(START.replace(year=START.year + 1)))
    host.server.channel_now = replace(host.server.channel_now, pace=late)
    plan = host.agent.check(UpdateOptions())
    assert isinstance(plan, Update)
    assert str(plan.version) == "1.0.1"
    host.update_to("1.0.1")
    assert "older" not in host.run("status")
    # What was never proven here waits as before.
    host.server.point_to("1.0.2")
    assert isinstance(host.agent.check(UpdateOptions()), Wait)


def test_going_back_by_an_operator_is_no_such_case(host: Host) -> None:
    host.update_to("1.0.1")
    host.run("rollback", "--no-reboot")
    host.boot()
    host.run("bless")
    host.boot()
    assert str(host.agent.facts().running_version) == "1.0.0"
    assert not host.noted()
    assert "older" not in host.run("status")


def test_a_pin_to_the_older_version_explains_it(host: Host) -> None:
    host.update_to("1.0.1")
    host.store.change(lambda hints: replace(hints, pin=Pin(Version("1.0.0"))), NOW)
    host.disk_with("1.0.0")
    host.boot()
    assert not host.noted()


def test_a_newer_version_that_failed_later_explains_it(host: Host) -> None:
    host.update_to("1.0.1")
    host.store.change(lambda hints: hints.with_bad(Version("1.0.1"), "a damaged block", NOW), NOW)
    host.disk_with("1.0.0")
    host.boot()
    assert not host.noted()


def test_a_newer_version_on_the_disk_is_a_way_back_and_no_such_case(host: Host) -> None:
    host.update_to("1.0.1")
    host.disk_with("1.0.0").host.put(RELEASES["1.0.1"], Slot.B)
    hints = host.store.load(NOW)
    assert older.put_back(host.agent.facts(), hints) is None


def test_a_history_that_cannot_be_written_does_not_keep_a_host_from_booting(host: Host) -> None:
    host.update_to("1.0.1")
    host.disk_with("1.0.0")
    before = host.store.load(NOW)

    class Full(HintStore):
        def load(self, now: Instant) -> Hints:
            return before

    (host.lock.parent / "file").touch()
    older.note(Full(host.lock.parent / "file/state.json"), host.agent.facts(), NOW)
