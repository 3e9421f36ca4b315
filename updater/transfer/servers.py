"""The servers of a repository in the order in which they are asked, and the pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bedrock.clock import Clock
from updater.transfer.failure import TransferError
from updater.transfer.urls import shown

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


@dataclass
class Servers:
    """Base URLs; one that failed is asked last from then on.

    `say` is given what a person should know; `jitter` gives numbers in [0, 1) that spread the pauses of many hosts.
    """

    urls: list[str]
    clock: Clock
    say: Callable[[str], None]
    jitter: Callable[[], float] = field(default=random.random)

    @property
    def first(self) -> str:
        """The one to ask now."""
        return self.urls[0]

    def failed(self, error: TransferError, tries: int) -> float:
        """Put the first one last; how long to wait before the next try, in seconds.

        There is no pause while a server is left that was not asked in this round, unless all that is left is to wait.
        """
        count = len(self.urls)
        self.urls.append(self.urls.pop(0))
        if tries % count:
            return 0.0
        return max(error.retry_after_s or 0.0, pause_s(tries // count, self.jitter()))

    def pause(self, seconds: float, error: TransferError) -> None:
        """Wait, and say so when it takes long."""
        if seconds >= LONGEST_PAUSE_S:
            self.say(f"{shown(self.first)}: {error}; asked again in {seconds:.0f} s")
        if seconds:
            self.clock.sleep(seconds)


def pause_s(tries: int, jitter: float) -> float:
    """Seconds before the next try: doubling, bounded, and spread over the upper half."""
    doublings = min(max(tries - 1, 0), 16)
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**doublings)) * (0.5 + jitter / 2)
