"""Bounded waiting for an event (a line, a socket, an exit)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bedrock.clock import SYSTEM_CLOCK, Clock
from imagebuild.errors import VmError

_INTERVAL_S = 0.1

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], *, what: str, timeout_s: float, clock: Clock = SYSTEM_CLOCK) -> Found:
    """Call `look` until it returns something; it may raise to end the waiting early.

    Raises:
        VmError: Nothing came in time.
    """
    deadline = clock.steady() + timeout_s
    while True:
        found = look()
        if found is not None:
            return found
        if clock.steady() >= deadline:
            raise VmError(f"{what} did not come within {timeout_s:g} s")
        clock.sleep(_INTERVAL_S)
