"""Judging: what must hold, for how long, how failures are waited out, and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import TwinhullError
from tests.fakes.clock import FakeClock
from updater.agent import health
from updater.agent.checks import Check
from updater.agent.health import CheckResult, CheckWatch, HealthJudgement
from updater.agent.health_settings import Health, Need
from updater.errors import FetchError, RefusedError

SETTLE_S = 20.0


class Flaky:
    """Fails so many times, then passes."""

    def __init__(self, failures: int, error: Callable[[str], Exception] = TwinhullError) -> None:
        self.failures = failures
        self.error = error
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        if self.runs <= self.failures:
            raise self.error("not yet")
        return ""


@dataclass
class Service:
    """A service on a clock: it runs, dies after a while, and is started again after a pause if it has one."""

    clock: FakeClock
    dies_after_s: float
    again_after_s: float | None = None
    began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.began_s = self.clock.steady()

    def __call__(self) -> str:
        passed = self.clock.steady() - self.began_s
        if self.again_after_s is None:
            if passed >= self.dies_after_s:
                raise TwinhullError("it is failed")
            return "1"
        count, within = divmod(passed, self.dies_after_s + self.again_after_s)
        if within >= self.dies_after_s:
            raise TwinhullError("it is activating (auto-restart)")
        return str(count)


class Judged(NamedTuple):
    """How checks ended, what was said meanwhile, and how long it took."""

    results: tuple[CheckResult, ...]
    said: list[str]
    waits: list[float]
    clock: FakeClock

    @property
    def healthy(self) -> bool:
        return not health.failure_text(self.results)

    @property
    def took_s(self) -> float:
        return sum(self.clock.slept)


def bounds(settle: float = 0.0, patience: float = 60.0, server_patience: float = 600.0) -> Health:
    return Health(settle=settle, patience=patience, server_patience=server_patience, retry_interval=5.0)


def judged(*checks: Check, config: Health | None = None, clock: FakeClock | None = None) -> Judged:
    clock = clock or FakeClock()
    said, waits = list[str](), list[float]()
    run = HealthJudgement(checks, config or bounds(), clock, said.append, lambda: waits.append(clock.steady()))
    return Judged(run.run(), said, waits, clock)


def check(name: str, look: Callable[[], str], need: Need = Need.REQUIRED) -> Check:
    return Check(name, f"asked {name}", look, need)


def server(look: Callable[[], str]) -> Check:
    return Check("server", "its metadata", look, undecided=(FetchError, RefusedError))


def away(failures: int) -> Check:
    return server(Flaky(failures, FetchError))


def test_a_service_that_dies_three_seconds_after_it_was_asked_is_not_healthy() -> None:
    clock = FakeClock()
    done = judged(check("web", Service(clock, 3.0)), config=bounds(SETTLE_S), clock=clock)
    assert not done.healthy
    assert done.results[0].breaks == 1
    assert health.failure_text(done.results) == "web: it is failed"
    assert done.took_s == 60.0


def test_the_same_service_passes_without_a_settle_time() -> None:
    clock = FakeClock()
    assert judged(check("web", Service(clock, 3.0)), clock=clock).healthy


@pytest.mark.parametrize("again_after_s", [0.0, 0.1, 2.0])
def test_a_service_that_is_started_again_and_again_is_not_healthy(again_after_s: float) -> None:
    clock = FakeClock()
    done = judged(check("web", Service(clock, 7.0, again_after_s)), config=bounds(SETTLE_S), clock=clock)
    assert not done.healthy
    assert done.results[0].breaks > 3
    assert done.took_s <= 60.0 + 2 * SETTLE_S


def test_a_service_that_recovers_within_the_patience_is_waited_for_anew() -> None:
    clock = FakeClock()
    later = Service(clock, 8.0, 4.0)

    def look() -> str:
        return later() if clock.steady() - later.began_s < 16.0 else "steady"

    done = judged(check("web", look), config=bounds(SETTLE_S), clock=clock)
    assert done.healthy
    assert done.results[0].held_s >= SETTLE_S
    assert done.took_s >= 16.0 + SETTLE_S


def test_all_must_hold_at_the_same_time() -> None:
    clock = FakeClock()

    def first() -> str:
        return "a" if clock.steady() < 18.0 else "b"

    done = judged(check("first", first), check("late", Flaky(3)), config=bounds(SETTLE_S), clock=clock)
    assert done.healthy
    assert done.took_s == 40.0
    assert [result.held_s for result in done.results] == [20.0, 25.0]


def test_what_holds_takes_no_longer_than_the_settle_time() -> None:
    done = judged(check("a", Flaky(0)), check("b", Flaky(0)), config=bounds(7.0))
    assert done.healthy
    assert done.took_s == 7.0


def test_a_check_that_passes_later_is_waited_for_and_said_once() -> None:
    done = judged(check("slow", Flaky(3)), check("quick", Flaky(0)))
    assert done.healthy
    assert done.said == ["...  slow: not yet"]
    assert [result.tries for result in done.results] == [4, 4]
    assert done.took_s == 15.0


def test_patience_ends() -> None:
    done = judged(check("never", Flaky(10**9)))
    assert health.failure_text(done.results) == "never: not yet"
    assert done.took_s == 60.0


def test_without_patience_each_check_runs_once() -> None:
    flaky = Flaky(1)
    done = judged(check("once", flaky), config=bounds(patience=0.0))
    assert not done.healthy
    assert flaky.runs == 1
    assert not done.clock.slept


def test_a_check_that_is_only_wanted_decides_nothing_and_is_waited_for_by_nobody() -> None:
    done = judged(check("nice", Flaky(10**9), Need.WANTED), check("web", Flaky(0)), config=bounds(10.0))
    assert done.healthy
    assert done.took_s == 10.0
    assert [result.line for result in done.results] == ["warn nice: not yet", "ok   web: held 10 s"]


def test_an_update_server_that_is_away_is_waited_for_longer_than_anything_else() -> None:
    done = judged(away(50), check("slow", Flaky(3)))
    assert done.healthy
    # The server is asked when nothing else is left to be checked, and that is said before: asking may take long.
    assert (done.waits, done.took_s) == ([15.0], 265.0)


def test_an_update_server_that_stays_away_decides_nothing() -> None:
    done = judged(away(10**9), check("quick", Flaky(0)))
    assert health.is_undecided(done.results)
    assert health.failure_text(done.results) == "server: not yet"
    assert done.took_s == 600.0


def test_a_check_that_fails_decides_without_the_server() -> None:
    done = judged(check("broken", Flaky(10**9)), away(10**9))
    assert not health.is_undecided(done.results)
    assert (done.waits, done.took_s) == ([], 60.0)
    assert [result.name for result in done.results] == ["broken"]


def test_a_service_that_dies_while_the_server_is_waited_for_decides() -> None:
    clock = FakeClock()
    done = judged(check("web", Service(clock, 100.0)), away(10**9), config=bounds(SETTLE_S), clock=clock)
    assert not health.is_undecided(done.results)
    assert 100.0 + 55.0 <= done.took_s <= 100.0 + 65.0


def test_a_service_that_dies_while_the_server_answers_slowly_decides() -> None:
    clock = FakeClock()

    def slow() -> str:
        clock.sleep(90.0)
        return ""

    done = judged(check("web", Service(clock, 30.0)), server(slow), config=bounds(SETTLE_S), clock=clock)
    assert not done.healthy


def test_what_passes_is_not_undecided() -> None:
    assert not health.is_undecided(judged(away(0)).results)


def test_an_error_of_our_own_in_asking_the_server_decides() -> None:
    done = judged(server(Flaky(10**9)))
    assert not health.is_undecided(done.results)
    assert done.took_s == 60.0


def test_nothing_to_check_is_healthy() -> None:
    assert judged().healthy


def test_a_result_says_what_was_asked_and_for_how_long_it_held() -> None:
    (result,) = judged(check("web", Flaky(0)), config=bounds(10.0)).results
    assert (result.asked, result.held_s, result.breaks, result.tries) == ("asked web", 10.0, 0, 3)


@given(
    looks=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=40),
    settle=st.sampled_from([0.0, 3.0, 20.0]),
    patience=st.sampled_from([0.0, 20.0, 60.0]),
)
def test_whatever_is_seen_it_ends_in_time_and_healthy_means_that_it_held(
    looks: list[str | None], settle: float, patience: float
) -> None:
    seen: list[tuple[float, str | None]] = []
    clock = FakeClock()

    def look() -> str:
        mark = looks[min(len(seen), len(looks) - 1)]
        seen.append((clock.steady(), mark))
        if mark is None:
            raise TwinhullError("no")
        return mark

    done = judged(check("web", look), config=bounds(settle, patience), clock=clock)
    assert done.took_s <= patience + settle + 5.0
    if done.healthy:
        last = seen[-1][1]
        held = [at for at, mark in seen if at >= seen[-1][0] - settle]
        assert all(mark == last for at, mark in seen if at in held)
        assert last is not None


def test_a_look_that_takes_long_counts_when_it_is_over() -> None:
    clock = FakeClock()

    def slow() -> str:
        clock.sleep(30.0)
        return ""

    watch = CheckWatch(check("slow", slow))
    watch.look(clock)
    assert (watch.held_s, watch.seconds) == (0.0, 30.0)
