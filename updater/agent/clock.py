"""Time: code that reads the clock or sleeps takes a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from updater.documents.channel import Instant


class Clock(Protocol):
    """The time of day, a steady counter, and sleep."""

    def now(self) -> datetime:
        """The time of day in UTC."""

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(tz=UTC)

    def steady(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait on the real clock."""
        time.sleep(seconds)


def instant(clock: Clock) -> Instant:
    """Now, in the documents' format (whole seconds)."""
    return Instant(clock.now().replace(microsecond=0))
