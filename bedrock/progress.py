"""How long-running work reports its progress, without knowing who listens.

A step has a name and, where it is known, a total in bytes or items.  Library code calls `Progress`; a `cli.py` decides
whether that becomes a bar, plain lines or nothing.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives progress reports; must be cheap and must not raise."""

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
