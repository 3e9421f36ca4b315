"""Time that passes only when somebody waits."""

from __future__ import annotations


class WaitedClock:
    """A clock of `imagebuild.vm.waiting` that no test has to sleep for."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now(self) -> float:
        return self.time_s

    def pause(self, seconds: float) -> None:
        self.time_s += seconds
