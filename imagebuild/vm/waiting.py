"""Bounded waiting for an event (a line, a socket, an exit), with a clock that tests can replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from imagebuild.errors import VmError

_INTERVAL_S = 0.1

Found = TypeVar("Found")


class Clock(Protocol):
    """Time that passes."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def pause(self, seconds: float) -> None:
        """Let that much time pass."""


class SystemClock:
    """This machine's time."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


def wait_for(look: Callable[[], Found | None], *, what: str, timeout_s: float, clock: Clock = SYSTEM_CLOCK) -> Found:
    """Call `look` until it returns something; it may raise to end the waiting early.

    Raises:
        VmError: Nothing came in time.
    """
    deadline = clock.now() + timeout_s
    while True:
        found = look()
        if found is not None:
            return found
        if clock.now() >= deadline:
            raise VmError(f"{what} did not come within {timeout_s:g} s")
        clock.pause(_INTERVAL_S)
