"""Stops a download when a version that is staged already is due to reboot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bedrock.clock import Clock
from bedrock.progress import Progress
from updater.errors import PutOffError


@dataclass(frozen=True)
class Until:
    """Reports a download's progress, and ends it at a moment; what was kept of it stays.

    Only for downloads: an installation that has begun is finished.
    """

    inner: Progress
    clock: Clock
    until: datetime

    def step(self, name: str, *, total: int | None = None) -> None:
        """A new step began."""
        self.inner.step(name, total=total)

    def advance(self, amount: int) -> None:
        """More of the step is done.

        Raises:
            PutOffError: The moment has come.
        """
        self.inner.advance(amount)
        if self.clock.now() >= self.until:
            raise PutOffError("the download stops here, for the version that is staged reboots now")
