"""The daemon's rounds: jitter, waiting, reboot windows, and errors that do not stop it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from bedrock.progress import Progress, Silent
from partitions.layout import Slot
from partitions.version import Version
from tests.fakes.clock import START, FakeClock
from updater.agent.agent import UpdateOutcome
from updater.agent.config import Config
from updater.agent.install import Installation
from updater.agent.plan import Nothing, Plan, Update, UpdateOptions, Wait, Why
from updater.agent.service import Daemon, outcome_line
from updater.errors import FetchError, PutOffError, RefusedError, SlotError

V = Version.from_text("1.0.1")
UPDATE = Update(V, Slot.B, downgrade=False)
STAGED = Nothing(Why.STAGED, "staged")
CURRENT = Nothing(Why.UP_TO_DATE, "current")


@dataclass
class Answers:
    """An agent that gives prepared answers; each takes a while."""

    plans: list[Plan | Exception]
    clock: FakeClock
    takes_s: float = 0.0
    options: list[UpdateOptions] = field(default_factory=list)

    def update(self, options: UpdateOptions, progress: Progress) -> UpdateOutcome:
        self.options.append(options)
        answer = self.plans.pop(0)
        if self.takes_s:
            self.clock.sleep(self.takes_s)
        if isinstance(answer, Exception):
            raise answer
        return UpdateOutcome(answer)


@dataclass
class Waiting:
    """What is staged: nothing, or something that reboots at a moment."""

    clock: FakeClock
    answers: Answers
    at_s: float | None = None
    errors: list[Exception] = field(default_factory=list)
    reboots: list[float] = field(default_factory=list)
    heard: list[Plan] = field(default_factory=list)
    # How long a version that is installed only now waits; None while none is to come.
    after_update_s: float | None = 0.0

    def leave(self) -> float | None:
        if self.errors:
            raise self.errors.pop(0)
        if self.at_s is None:
            return None
        left = self.at_s - self.clock.steady()
        if left > 0:
            return left
        self.reboots.append(self.clock.steady())
        return 0.0

    def answered(self, plan: Plan) -> None:
        self.heard.append(plan)
        if not self.answers.plans and self.after_update_s is not None:
            self.at_s = self.clock.steady() + self.after_update_s


def daemon(
    *plans: Plan | Exception,
    config: Config | None = None,
    jitter: float = 0.0,
    at_s: float | None = None,
    after_update_s: float | None = None,
) -> tuple[Daemon, Answers, Waiting]:
    clock = FakeClock()
    answers = Answers(list(plans), clock)
    waiting = Waiting(clock, answers, at_s, after_update_s=after_update_s)
    return Daemon(answers, waiting, config or Config(), clock, lambda: jitter, Silent()), answers, waiting


def pauses(it: Daemon, count: int) -> list[float | None]:
    """The seconds between so many rounds, each of which polls."""
    found = []
    for _ in range(count):
        found.append(it.round())
        it.clock.sleep(found[-1] or 0.0)
    return found


def test_what_was_installed_reboots_when_it_is_due() -> None:
    it, answers, waiting = daemon(CURRENT, UPDATE, after_update_s=0.0)
    it.run()
    assert waiting.reboots == [1800.0]
    assert answers.options == [UpdateOptions(), UpdateOptions()]


def test_polls_are_spread_over_the_upper_half_of_the_interval() -> None:
    found = [daemon(CURRENT, jitter=jitter)[0].round() for jitter in (0.0, 0.5, 1.0)]
    assert found == [1800.0, 1350.0, 900.0]


def test_a_server_that_is_away_does_not_end_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    it, _, waiting = daemon(FetchError("gone"), OSError("disk"), UPDATE, after_update_s=0.0)
    it.run()
    assert len(waiting.reboots) == 1
    assert "gone" in caplog.text


@pytest.mark.parametrize("error", [FetchError("gone"), RefusedError("expired"), OSError("disk"), RuntimeError("ours")])
def test_a_staged_version_reboots_at_its_moment_though_no_server_answers(error: Exception) -> None:
    it, answers, waiting = daemon(*[error] * 20, at_s=5 * 3600.0)
    it.run()
    assert waiting.reboots == [5 * 3600.0]
    assert answers.plans


def test_a_staged_version_that_is_due_reboots_before_the_server_is_asked() -> None:
    it, answers, waiting = daemon(FetchError("gone"), at_s=0.0)
    it.run()
    assert waiting.reboots == [0.0]
    assert not answers.options


def test_a_poll_knows_when_the_staged_version_reboots() -> None:
    it, answers, waiting = daemon(PutOffError("a window opens"), UPDATE, at_s=1000.0)
    answers.takes_s = 1000.0
    it.run()
    assert answers.options == [UpdateOptions(until=START + timedelta(seconds=1000))]
    assert waiting.reboots == [1000.0]


def test_between_polls_only_the_moment_is_looked_at() -> None:
    it, answers, waiting = daemon(CURRENT, CURRENT, at_s=700.0, config=Config(poll_interval=3600.0))
    assert it.round() == 300.0
    it.clock.sleep(300.0)
    waiting.at_s = 450.0
    assert it.round() == 150.0
    assert len(answers.options) == 1


def test_shortly_before_a_reboot_no_server_is_asked_that_might_hang() -> None:
    it, answers, waiting = daemon(at_s=599.0)
    it.run()
    assert waiting.reboots == [599.0]
    assert not answers.options


def test_a_reboot_that_somebody_puts_off_for_long_does_not_keep_the_host_from_asking() -> None:
    it, answers, waiting = daemon(*[CURRENT] * 9, config=Config(poll_interval=600.0))
    while it.clock.steady() < 5 * 3600.0:
        waiting.at_s = it.clock.steady() + 60.0
        it.clock.sleep(it.round() or 0.0)
    assert len(answers.options) == 4


def test_a_clock_that_is_set_does_not_make_a_moment_be_overslept() -> None:
    it, _, waiting = daemon(CURRENT, at_s=50_000.0, config=Config(poll_interval=86400.0))
    assert it.round() == 300.0
    waiting.at_s = it.clock.steady()
    assert it.round() is None


@pytest.mark.parametrize("error", [SlotError("the disk cannot be read"), OSError("disk"), RuntimeError("ours")])
def test_an_error_in_looking_for_what_is_staged_does_not_end_the_polls(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    it, answers, waiting = daemon(CURRENT, UPDATE, after_update_s=0.0)
    waiting.errors = [error] * 3
    it.run()
    assert len(answers.options) == 2
    assert len(waiting.reboots) == 1
    assert str(error) in caplog.text


def test_what_the_server_says_is_handed_on() -> None:
    it, _, waiting = daemon(STAGED, CURRENT)
    it.round()
    assert waiting.heard == [STAGED]


def test_a_server_that_does_not_answer_withdraws_nothing() -> None:
    it, _, waiting = daemon(FetchError("gone"))
    it.round()
    assert waiting.heard == []


def test_rounds_that_fail_follow_each_other_ever_more_slowly_up_to_a_bound() -> None:
    frequent = Config(poll_interval=600.0)
    it, _, _ = daemon(*[FetchError("gone")] * 6, CURRENT, FetchError("gone"), config=frequent)
    assert pauses(it, 6) == [600.0, 1200.0, 2400.0, 3600.0, 3600.0, 3600.0]
    assert pauses(it, 2) == [600.0, 600.0]


def test_a_host_that_seldom_asks_asks_no_more_often_after_a_failure() -> None:
    it, _, _ = daemon(*[FetchError("gone")] * 40, config=Config(poll_interval=86400.0))
    assert set(pauses(it, 40)) == {86400.0}


def test_a_server_that_asks_to_be_left_alone_is_left_alone() -> None:
    frequent = Config(poll_interval=60.0)
    it, _, _ = daemon(FetchError("busy", retry_after_s=600.0), FetchError("busy", retry_after_s=1.0), config=frequent)
    assert pauses(it, 2) == [600.0, 120.0]


@pytest.mark.parametrize("error", [RuntimeError("ours"), MemoryError(), RecursionError(), KeyError("x")])
def test_an_error_of_our_own_does_not_end_a_hosts_updates(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    it, _, waiting = daemon(error, UPDATE, after_update_s=0.0)
    it.run()
    assert len(waiting.reboots) == 1
    assert "an error of the agent itself" in caplog.text


def test_a_turn_that_comes_soon_is_not_overslept() -> None:
    assert daemon(Wait(START + timedelta(seconds=90), V, "soon"))[0].round() == 90.0
    assert daemon(Wait(START + timedelta(days=9), V, "later"))[0].round() == 1800.0


def test_a_disabled_daemon_asks_nobody_and_does_not_reboot() -> None:
    it, answers, waiting = daemon(config=Config(enabled=False), at_s=0.0)
    assert it.round() == 1800.0
    assert not answers.options
    assert not waiting.reboots


def test_an_outcome_tells_bytes_seconds_and_speed() -> None:
    line = outcome_line(UpdateOutcome(UPDATE, Installation(73_000_000, 300_000_000, 6.0, 3.0)))
    assert "73000000 bytes downloaded" in line
    assert "50.0 MB/s" in line
    assert outcome_line(UpdateOutcome(CURRENT)) == "current"


def test_the_clock_of_these_tests_starts_at_noon() -> None:
    assert FakeClock().now() == datetime.fromisoformat("2026-03-01T12:00:00+00:00")
