"""The daemon's rounds: jitter, waiting, reboot windows, and errors that do not stop it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from bedrock.progress import Progress, Silent
from partitions.layout import Slot
from partitions.version import Version
from tests.fakes.clock import START, FakeClock
from updater.agent.agent import UpdateOutcome
from updater.agent.config import Config, Reboot, RebootPolicy, RebootWindow, TimeOfDay
from updater.agent.install import Installation
from updater.agent.plan import Nothing, Plan, Update, UpdateOptions, Wait, Why
from updater.agent.service import Daemon, outcome_line
from updater.errors import FetchError

V = Version.from_text("1.0.1")
UPDATE = Update(V, Slot.B, downgrade=False)
STAGED = Nothing(Why.STAGED, "staged")
CURRENT = Nothing(Why.UP_TO_DATE, "current")


@dataclass
class Answers:
    """An agent that gives prepared answers."""

    plans: list[Plan | Exception]
    reboots: int = 0
    options: list[UpdateOptions] = field(default_factory=list)

    def update(self, options: UpdateOptions, progress: Progress) -> UpdateOutcome:
        self.options.append(options)
        answer = self.plans.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return UpdateOutcome(answer)

    def reboot(self) -> None:
        self.reboots += 1


def daemon(*plans: Plan | Exception, config: Config | None = None, jitter: float = 0.0) -> tuple[Daemon, Answers]:
    answers = Answers(list(plans))
    return Daemon(answers, config or Config(), FakeClock(), lambda: jitter, Silent()), answers


def rebooting(policy: RebootPolicy, start: str = "13:00") -> Config:
    return replace(Config(), reboot=Reboot(policy, RebootWindow(TimeOfDay.from_text(start))))


def test_an_update_reboots_at_once_by_default() -> None:
    it, answers = daemon(CURRENT, UPDATE)
    it.run()
    assert answers.reboots == 1
    assert answers.options == [UpdateOptions(), UpdateOptions()]


def test_polls_are_spread_over_the_upper_half_of_the_interval() -> None:
    pauses = [daemon(CURRENT, jitter=jitter)[0].round() for jitter in (0.0, 0.5, 1.0)]
    assert pauses == [1800.0, 1350.0, 900.0]


def test_a_server_that_is_away_does_not_end_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    it, answers = daemon(FetchError("gone"), OSError("disk"), UPDATE)
    it.run()
    assert answers.reboots == 1
    assert "gone" in caplog.text


def test_rounds_that_fail_follow_each_other_ever_more_slowly_up_to_a_bound() -> None:
    frequent = Config(poll_interval=600.0)
    it, _ = daemon(*[FetchError("gone")] * 6, CURRENT, FetchError("gone"), config=frequent)
    assert [it.round() for _ in range(6)] == [600.0, 1200.0, 2400.0, 3600.0, 3600.0, 3600.0]
    assert it.round() == 600.0
    assert it.round() == 600.0


def test_a_host_that_seldom_asks_asks_no_more_often_after_a_failure() -> None:
    it, _ = daemon(*[FetchError("gone")] * 40, config=Config(poll_interval=86400.0))
    assert {it.round() for _ in range(40)} == {86400.0}


def test_a_server_that_asks_to_be_left_alone_is_left_alone() -> None:
    frequent = Config(poll_interval=60.0)
    it, _ = daemon(FetchError("busy", retry_after_s=600.0), FetchError("busy", retry_after_s=1.0), config=frequent)
    assert it.round() == 600.0
    assert it.round() == 120.0


@pytest.mark.parametrize("error", [RuntimeError("ours"), MemoryError(), RecursionError(), KeyError("x")])
def test_an_error_of_our_own_does_not_end_a_hosts_updates(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    it, answers = daemon(error, UPDATE)
    it.run()
    assert answers.reboots == 1
    assert "an error of the agent itself" in caplog.text


def test_a_turn_that_comes_soon_is_not_overslept() -> None:
    assert daemon(Wait(START + timedelta(seconds=90), V, "soon"))[0].round() == 90.0
    assert daemon(Wait(START + timedelta(days=9), V, "later"))[0].round() == 1800.0


@pytest.mark.parametrize("plan", [UPDATE, STAGED])
def test_a_staged_version_waits_for_the_window(plan: Plan) -> None:
    it, answers = daemon(plan, config=rebooting(RebootPolicy.WINDOW, "12:10"))
    assert it.round() == 600.0
    assert answers.reboots == 0
    it, answers = daemon(plan, config=rebooting(RebootPolicy.WINDOW, "11:00"))
    assert it.round() is None
    assert answers.reboots == 1


def test_a_manual_reboot_is_left_to_the_operator() -> None:
    it, answers = daemon(UPDATE, STAGED, config=rebooting(RebootPolicy.MANUAL))
    assert it.round() == it.round() == 1800.0
    assert answers.reboots == 0


def test_a_disabled_daemon_asks_nobody() -> None:
    it, answers = daemon(config=Config(enabled=False))
    assert it.round() == 1800.0
    assert not answers.options


def test_an_outcome_tells_bytes_seconds_and_speed() -> None:
    line = outcome_line(UpdateOutcome(UPDATE, Installation(73_000_000, 300_000_000, 6.0, 3.0)))
    assert "73000000 bytes downloaded" in line
    assert "50.0 MB/s" in line
    assert outcome_line(UpdateOutcome(CURRENT)) == "current"


def test_the_clock_of_these_tests_starts_at_noon() -> None:
    assert FakeClock().now() == datetime.fromisoformat("2026-03-01T12:00:00+00:00")
