"""The reboot into what is staged: when, why not now, who is asked, and who is overruled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bedrock.errors import TwinhullError
from bedrock.process import Finished
from bedrock.progress import Silent
from partitions.layout import Slot
from partitions.version import Version
from tests.fakes.clock import START
from tests.fakes.documents import channel_at, reference_to
from tests.fakes.machine import FakeMachine, FakeServer
from tests.fakes.twin_host import TwinHost, built
from updater.agent.agent import Agent
from updater.agent.before_reboot import EXIT_NOT_NOW, Surroundings
from updater.agent.config import Config
from updater.agent.departure import (
    Circumstances,
    Departure,
    Notes,
    is_named,
    local_zone,
    outlook,
    ready_since,
    withdrawal,
)
from updater.agent.plan import Nothing, Plan, StagedVersion, Update, UpdateOptions, Wait, Why
from updater.agent.reboot_settings import Reboot, RebootPolicy, RebootWindow
from updater.agent.state import EventKind
from updater.agent.store import HintStore
from updater.documents.channel import Instant
from updater.week import TimeOfDay

RELEASES = {text: built(text) for text in ("1.0.0", "1.0.1")}
NEXT = Version.from_text("1.0.1")
# The clock of these tests starts at noon.
TWO_O_CLOCK = Reboot(RebootPolicy.WINDOW, (RebootWindow(TimeOfDay(14, 0)),))


@dataclass
class Asked:
    """Who is asked before a reboot."""

    holders: tuple[str, ...] = ()
    code: int = 0
    calls: list[str] = field(default_factory=list)

    def run(self, hook: Path, environment: Mapping[str, str], timeout_s: float) -> Finished:
        self.calls.append(environment["TWINHULL_LAST_CALL"])
        return Finished((str(hook),), self.code, "", "")

    def inhibitors(self) -> tuple[str, ...]:
        return self.holders


@dataclass
class Stage:
    """A host with 1.0.1 staged."""

    machine: FakeMachine
    departure: Departure
    asked: Asked

    def with_settings(self, config: Config) -> Departure:
        return replace(self.departure, agent=replace(self.departure.agent, config=config))

    def pass_time(self, seconds: float) -> None:
        self.machine.clock.sleep(seconds)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    host = TwinHost(RELEASES["1.0.0"])
    host.know(RELEASES["1.0.1"])
    machine = FakeMachine(host)
    server = FakeServer(channel_at(reference_to(RELEASES["1.0.1"].release), Instant(START)), dict(RELEASES))
    config = Config(url="http://server", channel="stable")
    agent = Agent(machine, config, HintStore(tmp_path / "state.json"), tmp_path / "lock", server)
    asked = Asked()
    around = Surroundings(lambda: [Path("/etc/hook")], asked.run, asked.inhibitors)
    agent.update(UpdateOptions(), Silent())
    return Stage(machine, Departure(agent, tmp_path / "run/reboot.json", around, lambda: UTC), asked)


def test_by_default_it_reboots_at_once(stage: Stage) -> None:
    assert stage.departure.leave() == 0.0
    assert stage.machine.reboots == [False]


def test_with_nothing_staged_there_is_no_outlook(stage: Stage) -> None:
    stage.machine.power_cycle()
    stage.departure.agent.bless()
    assert stage.departure.outlook() is None
    assert stage.departure.leave() is None
    assert stage.machine.reboots == []


def test_a_window_is_waited_for_and_the_outlook_says_so(stage: Stage) -> None:
    departure = stage.with_settings(Config(reboot=TWO_O_CLOCK))
    left = departure.leave()
    assert left is not None
    assert 7200.0 <= left < 7200.0 + 0.9 * 7200.0
    shown = departure.outlook()
    assert shown is not None
    assert shown.at == Instant.of(START + timedelta(seconds=left))
    assert str(shown).startswith(f"into 1.0.1 at {shown.at}: the window of 14:00 UTC opens at 2026-03-01T14:00:00Z")
    stage.pass_time(left)
    assert stage.machine.reboots == []
    assert departure.leave() == 0.0
    assert stage.machine.reboots == [False]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (Config(reboot=Reboot(RebootPolicy.MANUAL)), "it is left to an operator: see `updater reboot`"),
        (Config(enabled=False), "`enabled` is false in the settings"),
    ],
)
def test_a_host_that_does_not_reboot_by_itself_says_why(stage: Stage, config: Config, why: str) -> None:
    departure = stage.with_settings(config)
    shown = departure.outlook()
    assert shown is not None
    assert (shown.at, shown.why) == (None, why)
    assert departure.leave() is None
    assert stage.machine.reboots == []


def test_a_hold_keeps_what_is_staged_from_booting(stage: Stage) -> None:
    stage.departure.agent.hold("audit")
    assert stage.departure.leave() is None
    shown = stage.departure.outlook()
    assert shown is not None
    assert "audit" in shown.why
    stage.departure.agent.release_hold()
    assert stage.departure.leave() == 0.0


def test_what_the_server_does_not_want_any_more_does_not_boot_until_it_does(stage: Stage) -> None:
    stage.departure.answered(Nothing(Why.HALTED, "channel stable is halted"))
    assert stage.departure.leave() is None
    shown = stage.departure.outlook()
    assert shown is not None
    assert shown.why == "channel stable is halted"
    stage.departure.answered(Nothing(Why.STAGED, "staged"))
    assert stage.departure.leave() == 0.0


@pytest.mark.parametrize(
    ("plan", "reason", "named"),
    [
        (Nothing(Why.HALTED, "halted"), "halted", False),
        (Nothing(Why.OLDER, "older"), "older", False),
        (Nothing(Why.UP_TO_DATE, "current"), "current", False),
        (Nothing(Why.STAGED, "staged"), "", True),
        (Update(NEXT, Slot.B, downgrade=False), "", True),
        (Nothing(Why.HELD, "held"), "", False),
        (Wait(START, NEXT, "soon"), "", False),
    ],
)
def test_what_the_server_says_of_what_is_staged(*, plan: Plan, reason: str, named: bool) -> None:
    assert (withdrawal(plan), is_named(plan)) == (reason, named)


def test_a_proven_version_that_did_not_come_up_is_gone_to_only_when_the_server_names_it() -> None:
    given = Circumstances(START, 0.0, "m", UTC)
    target = StagedVersion(NEXT, proven=True)
    shown, at = outlook(target, Config(), Notes(NEXT), ready=None, given=given)
    assert at is None
    assert "has not named it" in shown.why
    _, at = outlook(target, Config(), Notes(NEXT, named=True), ready=None, given=given)
    assert at == START


def test_an_inhibitor_is_waited_for_up_to_the_patience_and_then_overruled(stage: Stage) -> None:
    stage.asked.holders = ("backup inhibits a shutdown: nightly",)
    for _ in range(60):
        assert stage.departure.leave() == 60.0
        stage.pass_time(60.0)
    assert stage.machine.reboots == []
    assert stage.asked.calls == []
    assert stage.departure.leave() == 0.0
    assert stage.machine.reboots == [False]
    assert stage.asked.calls == ["1"]
    last = stage.departure.agent.hints().history[-1]
    assert (last.kind, last.version) == (EventKind.OVERRULED, NEXT)
    assert "backup inhibits" in last.text


def test_an_inhibitor_that_is_released_ends_the_wait(stage: Stage) -> None:
    stage.asked.holders = ("backup inhibits a shutdown: nightly",)
    assert stage.departure.leave() == 60.0
    stage.asked.holders = ()
    stage.pass_time(60.0)
    assert stage.departure.leave() == 0.0
    assert stage.asked.calls == ["0"]


def test_the_outlook_says_for_whom_it_waits_and_until_when(stage: Stage) -> None:
    stage.asked.code = EXIT_NOT_NOW
    stage.departure.leave()
    stage.pass_time(600.0)
    shown = stage.departure.outlook()
    assert shown is not None
    assert shown.waits_for == ("/etc/hook says not now",)
    assert shown.overruled_at == Instant.of(START + timedelta(hours=1))
    assert shown.why.endswith("but /etc/hook says not now")


def test_nobody_is_asked_again_before_it_is_time(stage: Stage) -> None:
    stage.asked.code = EXIT_NOT_NOW
    assert stage.departure.leave() == 60.0
    stage.pass_time(20.0)
    assert stage.departure.leave() == 40.0
    assert stage.asked.calls == ["0"]
    stage.pass_time(40.0)
    stage.departure.leave()
    assert stage.asked.calls == ["0", "0"]


def test_a_wait_that_outlasts_the_window_ends_in_the_next_one(stage: Stage) -> None:
    departure = stage.with_settings(Config(reboot=replace(TWO_O_CLOCK, patience=6 * 3600.0)))
    stage.asked.code = EXIT_NOT_NOW
    while (left := departure.leave()) is not None and left <= 6 * 3600.0:
        assert left > 0.0
        stage.pass_time(left)
    assert left is not None
    assert stage.machine.clock.now() >= datetime(2026, 3, 1, 16, tzinfo=UTC)
    stage.pass_time(left)
    assert stage.machine.reboots == []
    assert departure.leave() == 0.0
    assert 14 <= stage.machine.clock.now().hour < 16


def test_without_patience_nobody_is_waited_for(stage: Stage) -> None:
    departure = stage.with_settings(Config(reboot=Reboot(patience=0.0)))
    stage.asked.holders = ("backup inhibits a shutdown: nightly",)
    assert departure.leave() == 0.0


def test_by_hand_it_says_for_whom_it_waits(stage: Stage) -> None:
    stage.asked.holders = ("backup inhibits a shutdown: nightly",)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 3:
            stage.asked.holders = ()

    stage.departure.wait(NEXT, say, at_once=False)
    assert said[0] == "waiting for up to 3600 s: backup inhibits a shutdown: nightly"
    assert stage.machine.clock.slept == [60.0] * 3
    stage.asked.holders = ("again",)
    stage.departure.wait(NEXT, say, at_once=True)
    assert len(said) == 3


def test_notes_of_another_version_or_that_are_broken_do_not_count(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.departure.answered(Nothing(Why.HALTED, "halted"))
    text = stage.departure.notes_path.read_text()
    stage.departure.notes_path.write_text(json.dumps({**json.loads(text), "version": "1.0.7"}))
    shown = stage.departure.outlook()
    assert shown is not None
    assert shown.at is not None
    stage.departure.notes_path.write_text("{")
    assert stage.departure.leave() == 0.0
    assert "reboot.json" in caplog.text


def test_notes_that_cannot_be_written_keep_no_host_from_rebooting(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    stage.departure.answered(Nothing(Why.HALTED, "halted"))
    assert stage.departure.leave() == 0.0


def test_a_reboot_that_fails_is_an_error(stage: Stage) -> None:
    stage.machine.reboot_errors = [TwinhullError("no systemd")]
    with pytest.raises(TwinhullError, match="no systemd"):
        stage.departure.leave()


def test_when_a_version_was_staged_is_in_the_history(stage: Stage) -> None:
    hints = stage.departure.agent.hints()
    assert ready_since(hints, NEXT) == START
    assert ready_since(hints, Version.from_text("1.0.2")) is None


def test_local_time_is_that_of_the_file_and_utc_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "etc").mkdir()
    assert local_zone(tmp_path) is UTC
    assert caplog.text == ""
    path = tmp_path / "etc/localtime"
    path.symlink_to("/usr/share/zoneinfo/Europe/Nowhere")
    assert local_zone(tmp_path) is UTC
    assert "is taken for UTC" in caplog.text
    path.unlink()
    path.write_bytes(b"not a zone")
    assert local_zone(tmp_path) is UTC
    path.write_bytes(ZONE)
    assert datetime(2026, 7, 1, 12, tzinfo=local_zone(tmp_path)).utcoffset() == timedelta(hours=2)


# A zone file (RFC 8536) of two hours east of Greenwich, all year.
ZONE = (
    b"".join(
        b"TZif2"
        + bytes(15)
        + b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 0, 1, 4))
        + (7200).to_bytes(4, "big")
        + b"\0\0"
        + b"EET\0"
        for _ in range(2)
    )
    + b"\nEET-2\n"
)
