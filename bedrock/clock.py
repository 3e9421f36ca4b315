"""Time: code that reads a clock to decide something, or sleeps, takes a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol


class Clock(Protocol):
    """What time it is, and the passing of it."""

    def now(self) -> datetime:
        """The time in UTC."""

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The real-time clock, in UTC."""
        return datetime.now(tz=UTC)

    def steady(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait on the real clock."""
        time.sleep(seconds)


SYSTEM_CLOCK: Final = SystemClock()
