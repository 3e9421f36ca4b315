"""How long-running work reports its progress, without knowing who listens.

A step has a name and, where it is known, a total in bytes or items.  Library code calls `Progress`; a `cli.py` decides
whether that becomes a bar, plain lines or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from bedrock.clock import SYSTEM_CLOCK, Clock

TENTHS: Final = 10

Say = Callable[[str], None]


class Progress(Protocol):
    """Receives progress reports; must be cheap.  What it raises ends the work."""

    def step(self, name: str, *, total: int | None = None) -> None:
        """A new step began; `total` is its size in bytes (or items) when known."""

    def advance(self, amount: int) -> None:
        """`amount` more bytes (or items) of the current step are done."""


class Silent:
    """Nobody listens."""

    def step(self, name: str, *, total: int | None = None) -> None:
        """Forget it."""

    def advance(self, amount: int) -> None:
        """Forget it."""


class LineProgress:
    """A line when a step begins, and how far it is at each tenth.

    Args:
        say: Prints a line.
        far: Prints how far a step is, to be replaced by what is printed next; nothing is said of that when None.
    """

    def __init__(self, say: Say, *, far: Say | None = None) -> None:
        self._say = say
        self._far = far
        self._name = ""
        self._total = 0
        self._done = 0
        self._told = 0

    def step(self, name: str, *, total: int | None = None) -> None:
        """A new step began."""
        self._name, self._total, self._done, self._told = name, total or 0, 0, 0
        self._say(f"{name} ({total / 1e6:.1f} MB)" if total else name)

    def advance(self, amount: int) -> None:
        """More of the step is done; a step that ended keeps its line."""
        self._done += amount
        tenth = min(TENTHS, self._done * TENTHS // self._total) if self._total else 0
        if self._far is not None and tenth > self._told:
            self._told = tenth
            (self._far if tenth < TENTHS else self._say)(f"{self._name}: {tenth * 100 // TENTHS} %")


def stamped(say: Say, clock: Clock = SYSTEM_CLOCK) -> Say:
    """What says a line with the seconds since now before it."""
    began = clock.steady()
    return lambda line: say(f"{clock.steady() - began:7.1f} s  {line}")
