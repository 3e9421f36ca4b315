"""What one client may take of the server: connections, time and memory.

Rules: a connection is refused before descriptors run out, and by less than a line of log for each; a request's head has
to arrive in time, and whoever takes no bytes of an answer for a while is cut off.  Clients on the loopback, where a
proxy in front of the server is, are not counted by address.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT_BYTES = 16 * 1024
# For what is not a connection: listeners, the log, the event loop, metadata that is read.
_OTHER_DESCRIPTORS = 64
_MOST_CONNECTIONS = 10_000
_ENDLESS_DESCRIPTORS = 1 << 20
_LOG_EVERY_S = 60.0
LIMITS_LOG = __name__
_log = logging.getLogger(LIMITS_LOG)


@dataclass(frozen=True)
class ConnectionLimits:
    """How much is given.

    Attributes:
        connections: Connections at a time, of all clients.
        per_address: Of them, those of one address.
        head_s: Seconds for a request's head, from the connection or from its first byte.
        stalled_s: Seconds in which a client has to take something of an answer that waits for it.
    """

    connections: int
    per_address: int
    head_s: float = 10.0
    stalled_s: float = 30.0

    @classmethod
    def of_descriptors(cls, descriptors: int) -> ConnectionLimits:
        """What so many file descriptors allow: a connection may hold one for itself and one for its file."""
        connections = max(1, min(_MOST_CONNECTIONS, (descriptors - _OTHER_DESCRIPTORS) // 2))
        return cls(connections, max(1, connections // 4))


def raise_descriptors() -> int:
    """Let this process open as many files as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return _ENDLESS_DESCRIPTORS
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class SparingFilter(logging.Filter):
    """Lets a message through once a minute, with the number of those it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def forget(self) -> None:
        """Let every message through again."""
        self._due.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        now = time.monotonic()
        if now < self._due.get(record.msg, 0.0):
            self._left_out[record.msg] += 1
            return False
        self._due[record.msg] = now + _LOG_EVERY_S
        if left_out := self._left_out.pop(record.msg, 0):
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", ()
        return True


@dataclass
class ConnectionCount:
    """The connections that are open, by address."""

    limits: ConnectionLimits
    total: int = 0
    by_address: Counter[str] = field(default_factory=Counter)

    def take(self, address: str) -> str:
        """Count one more; the reason why not, if it is too many."""
        if self.total >= self.limits.connections:
            return f"all {self.limits.connections} connections are taken"
        if not _is_loopback(address) and self.by_address[address] >= self.limits.per_address:
            return f"an address has its {self.limits.per_address} connections"
        self.total += 1
        self.by_address[address] += 1
        return ""

    def give_back(self, address: str) -> None:
        """One that was counted has ended."""
        self.total -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]


class LimitedProtocol(H11Protocol):
    """A connection with limits; `count` is that of all connections of the server."""

    count: ConnectionCount
    _address: str | None = None
    _timer: asyncio.TimerHandle | None = None
    _answering = False
    _moved = False

    def connection_made(self, transport: Any) -> None:
        """Count it, or end it; its first request has to come in time."""
        address = _address_of(transport)
        if reason := self.count.take(address):
            _log.warning("connections are refused: %s", reason)
            transport.abort()
            return
        self._address = address
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, whoever ended it."""
        if self._address is None:
            return
        self.count.give_back(self._address)
        self._set_timer(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        if self._address is None:
            return
        super().data_received(data)
        if self._is_answering():
            if not self._answering:
                self._answering, self._moved = True, True
                self._watch_answer()
        elif self._timer is None and not self.transport.is_closing():
            self._expect_head()

    def on_response_complete(self) -> None:
        """An answer was given; uvicorn limits how long the next request may be waited for."""
        self._answering = False
        self._set_timer(None)
        super().on_response_complete()

    def resume_writing(self) -> None:
        """The client took something."""
        self._moved = True
        super().resume_writing()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._set_timer(self.loop.call_later(self.count.limits.head_s, self._end))

    def _watch_answer(self) -> None:
        if self.flow.write_paused and not self._moved:
            self._end()
            return
        self._moved = False
        self._set_timer(self.loop.call_later(self.count.limits.stalled_s, self._watch_answer))

    def _end(self) -> None:
        self._set_timer(None)
        self.transport.abort()

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


def limited_protocol(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """The protocol of one server, with these limits."""
    return type("ServersProtocol", (LimitedProtocol,), {"count": ConnectionCount(limits)})


def _address_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return True
