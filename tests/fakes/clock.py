"""Time that passes only when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class FakeClock:
    """A `Clock` that no test has to wait for."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now
        self.slept: list[float] = []
        # What happens while somebody sleeps.
        self.meanwhile: Callable[[], object] = lambda: None

    def now(self) -> datetime:
        return self._now

    def steady(self) -> float:
        return (self._now - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += timedelta(seconds=seconds)
        self.meanwhile()


class TickingClock(FakeClock):
    """A clock on which each look takes a while."""

    def __init__(self, tick_s: float) -> None:
        super().__init__()
        self.tick_s = tick_s

    def steady(self) -> float:
        self._now += timedelta(seconds=self.tick_s)
        return super().steady()
