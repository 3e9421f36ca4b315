"""Tells systemd that the daemon is alive, as often as it gets on with its work: one that hangs is started again.

Only what gets on says so: waiting in small pieces, and each step and part of an update.  A thread that says it for the
others would also say it for a daemon that hangs.
Source: sd_notify(3), the variable NOTIFY_SOCKET and the message WATCHDOG=1.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import datetime

from bedrock.clock import Clock
from bedrock.progress import Progress

# How long a wait goes on without a word; the unit's WatchdogSec= is many times this.
PIECE_S = 30.0
_MESSAGE = b"WATCHDOG=1"


class Alive:
    """Says it to the socket that systemd named; to nobody when it named none."""

    def __init__(self, notify_socket: str | None) -> None:
        self._address = notify_socket and notify_socket.replace("@", "\0", 1)

    def say(self) -> None:
        """Say it once; whoever does not listen misses it."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(0)
            channel.sendto(_MESSAGE, self._address)


class AliveClock:
    """A clock whose waits say it."""

    def __init__(self, clock: Clock, alive: Alive) -> None:
        self._clock = clock
        self._alive = alive

    def now(self) -> datetime:
        """The time in UTC."""
        return self._clock.now()

    def steady(self) -> float:
        """Seconds of a clock that never jumps."""
        return self._clock.steady()

    def sleep(self, seconds: float) -> None:
        """Let that much time pass, in pieces."""
        left = seconds
        while left > 0:
            self._alive.say()
            self._clock.sleep(min(left, PIECE_S))
            left -= PIECE_S
        self._alive.say()


class AliveProgress:
    """Progress that says it at each step and part."""

    def __init__(self, progress: Progress, alive: Alive) -> None:
        self._progress = progress
        self._alive = alive

    def step(self, name: str, *, total: int | None = None) -> None:
        """A new step began."""
        self._alive.say()
        self._progress.step(name, total=total)

    def advance(self, amount: int) -> None:
        """More of the step is done."""
        self._alive.say()
        self._progress.advance(amount)
