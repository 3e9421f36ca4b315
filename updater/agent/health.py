"""Decides whether this boot is healthy: all required checks must hold together, without a break, for a while.

Checks are looked at again and again (`CheckWatch`), and what was seen decides (`verdict`): healthy once every required
check has held for `settle`; not healthy when one fails or was started anew after `patience`, which counts from the last
moment at which all was well.  A wanted check is looked at and reported, and decides nothing.
A check that may fail by something that is not the image's doing (`undecided`) is asked once all others have held, and
with a patience of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from bedrock.clock import Clock
from bedrock.errors import TwinhullError
from updater.agent.checks import Check
from updater.agent.health_settings import Health, Need

DETAIL_LIMIT = 500
# What is left of a settle time is never slept in smaller pieces.
SHORTEST_PAUSE_S = 0.1
Say = Callable[[str], None]


@dataclass(frozen=True)
class CheckResult:
    """How a check ended.

    Attributes:
        name: Its name.
        asked: What was looked at.
        need: What follows from it.
        ok: Whether it held at the last look.
        detail: Why not.
        tries: How many looks there were.
        seconds: How long the last one took.
        held_s: How long it had held without a break then.
        breaks: How often what had held failed or was started anew.
        undecided: It failed, and what it failed by is not the image's doing.
    """

    name: str
    asked: str
    need: Need
    ok: bool
    detail: str
    tries: int
    seconds: float
    held_s: float
    breaks: int
    undecided: bool

    @property
    def line(self) -> str:
        """The result for a person."""
        mark = "ok  " if self.ok else "FAIL" if self.need is Need.REQUIRED else "warn"
        told = [self.detail] if self.detail else []
        told += [f"held {self.held_s:.0f} s"] if self.held_s else []
        told += [f"broke {self.breaks} times"] if self.breaks else []
        return f"{mark} {self.name}{': ' if told else ''}{'; '.join(told)}"


class HealthVerdict(Enum):
    """What follows from the looks so far."""

    HEALTHY = auto()
    FAILED = auto()
    LOOK_AGAIN = auto()


@dataclass
class CheckWatch:
    """What was seen of one check so far; `since_s` is when it began to hold, None while it does not."""

    check: Check
    since_s: float | None = None
    seen_s: float = 0.0
    tries: int = 0
    seconds: float = 0.0
    breaks: int = 0
    broke: bool = False
    detail: str = ""
    undecided: bool = False
    _mark: str = field(default="", repr=False)

    def look(self, clock: Clock) -> None:
        """Look once more."""
        began = clock.steady()
        self.tries += 1
        held = self.since_s is not None
        try:
            mark = self.check.look()
        except (TwinhullError, OSError) as error:
            self.detail = " ".join(str(error).split())[:DETAIL_LIMIT]
            self.undecided = isinstance(error, self.check.undecided)
            self.since_s = None
            self.broke = held
        else:
            self.seen_s = clock.steady()
            self.undecided = False
            self.broke = held and mark != self._mark
            self.detail = f"was started anew while it was watched{f' ({mark})' if mark else ''}" if self.broke else ""
            self._mark = mark
            if not held or self.broke:
                self.since_s = self.seen_s
        self.breaks += self.broke
        self.seconds = clock.steady() - began

    @property
    def is_well(self) -> bool:
        """Whether the last look found it as the one before, or well for the first time."""
        return self.since_s is not None and not self.broke

    @property
    def held_s(self) -> float:
        """How long it has held without a break, between two looks."""
        return 0.0 if self.since_s is None else self.seen_s - self.since_s

    def result(self) -> CheckResult:
        """How it ended."""
        return CheckResult(
            name=self.check.name,
            asked=self.check.asked,
            need=self.check.need,
            ok=self.is_well,
            detail=self.detail,
            tries=self.tries,
            seconds=self.seconds,
            held_s=self.held_s,
            breaks=self.breaks,
            undecided=self.undecided,
        )


def verdict(watched: Sequence[CheckWatch], *, settle_s: float, out_of_patience: bool) -> HealthVerdict:
    """What follows from what was seen; pure."""
    required = [watch for watch in watched if watch.check.need is Need.REQUIRED]
    if all(watch.is_well and watch.held_s >= settle_s for watch in required):
        return HealthVerdict.HEALTHY
    if out_of_patience and not all(watch.is_well for watch in required):
        return HealthVerdict.FAILED
    return HealthVerdict.LOOK_AGAIN


def pause_s(watched: Sequence[CheckWatch], config: Health) -> float:
    """How long to wait for the next look: at most until the last one has held for long enough; pure."""
    held = [watch.held_s for watch in watched if watch.check.need is Need.REQUIRED and watch.is_well]
    left = config.settle - min(held, default=0.0)
    return max(SHORTEST_PAUSE_S, min(config.retry_interval, left)) if left > 0 else config.retry_interval


@dataclass
class HealthJudgement:
    """One judging of all checks.

    Attributes:
        checks: What is looked at.
        config: How long what must hold, and how patient to be.
        clock: Measures that.
        say: Is given a line when a check fails or fails otherwise than before.
        on_wait: Called before the first look that may stay undecided, which may take long by itself.
    """

    checks: Sequence[Check]
    config: Health
    clock: Clock
    say: Say = lambda _: None
    on_wait: Callable[[], None] = lambda: None
    _asked_since_s: float = field(default=0.0, init=False)

    def run(self) -> tuple[CheckResult, ...]:
        """Look until it is decided; bounded by the patiences and the time limit of each look."""
        sure = [CheckWatch(check) for check in self.checks if not check.undecided]
        rest = [CheckWatch(check) for check in self.checks if check.undecided]
        patient_until = self.clock.steady() + self.config.patience
        while True:
            self._look(sure)
            now = self.clock.steady()
            found = verdict(sure, settle_s=self.config.settle, out_of_patience=now >= patient_until)
            if found is HealthVerdict.FAILED:
                break
            if found is HealthVerdict.HEALTHY:
                if self._rest_is_decided(rest):
                    break
                patient_until = self.clock.steady() + self.config.patience
            self.clock.sleep(pause_s(sure, self.config))
        looked = {watch.check.name: watch for watch in (*sure, *rest) if watch.tries}
        return tuple(looked[check.name].result() for check in self.checks if check.name in looked)

    def _rest_is_decided(self, rest: Sequence[CheckWatch]) -> bool:
        """Ask what may stay undecided; while that takes long, the others may have changed."""
        waiting = [watch for watch in rest if not watch.is_well]
        if not waiting:
            return True
        now = self.clock.steady()
        if not any(watch.tries for watch in rest):
            self.on_wait()
            self._asked_since_s = now
        asked_for = now - self._asked_since_s
        self._look(waiting)
        failing = [watch for watch in waiting if not watch.is_well]
        if not failing:
            return self.clock.steady() - now < self.config.retry_interval
        return any(
            asked_for >= (self.config.server_patience if watch.undecided else self.config.patience) for watch in failing
        )

    def _look(self, watched: Sequence[CheckWatch]) -> None:
        for watch in watched:
            before = watch.detail
            watch.look(self.clock)
            if watch.detail and watch.detail != before:
                self.say(f"...  {watch.check.name}: {watch.detail}")


def failure_text(results: Sequence[CheckResult]) -> str:
    """All required checks that failed in one line; empty when there is none."""
    return "; ".join(f"{result.name}: {result.detail}" for result in _failed(results))


def is_undecided(results: Sequence[CheckResult]) -> bool:
    """Whether required checks failed, and none of them by the image's doing."""
    failed = _failed(results)
    return bool(failed) and all(result.undecided for result in failed)


def _failed(results: Sequence[CheckResult]) -> list[CheckResult]:
    return [result for result in results if not result.ok and result.need is Need.REQUIRED]
