"""What one client may take of the server: connections, time and memory.

Rules: a connection is counted when it is accepted, before anything is read or decrypted, and refused before descriptors
run out; a request's head has to arrive in time, and whoever takes no byte of what waits for it for a while is cut off,
whatever it asked for.  Clients on the loopback, where a proxy in front of the server is, are not counted by address.
Source: tcp(7) for TCP_NOTSENT_LOWAT (how much the kernel holds back), tcp(7) SIOCOUTQ (what the client has not taken).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
import sys
import termios
import time
from collections import Counter
from dataclasses import dataclass, field
from fcntl import ioctl
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT_BYTES = 16 * 1024
# What the kernel takes ahead of a client; the rest waits here, and is bounded there.
NOT_SENT_BYTES = 128 * 1024
# For what is not a connection: listeners, the log, the event loop, metadata that is read.
_OTHER_DESCRIPTORS = 64
_MOST_CONNECTIONS = 10_000
_ENDLESS_DESCRIPTORS = 1 << 20
_LOG_EVERY_S = 60.0
_MOST_MESSAGES = 100
_MESSAGE_CHARACTERS = 80
_LOOKS_PER_LIMIT = 5
_REFUSED_AT_ONCE = 64
# One customer of a provider has at least this much.
_CLIENTS_NETWORK = 64
LIMITS_LOG = __name__
_log = logging.getLogger(LIMITS_LOG)


@dataclass(frozen=True)
class ConnectionLimits:
    """How much is given.

    Attributes:
        connections: Connections at a time, of all clients.
        per_address: Of them, those of one address.
        head_s: Seconds for a request's head, from the connection or from its first byte.
        stalled_s: Seconds in which a client has to take a byte of what waits for it.
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
    wanted = _ENDLESS_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class SparingFilter(logging.Filter):
    """Lets a message through once a minute, with the number of those it left out; messages are told by their begin."""

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def forget(self) -> None:
        """Let every message through again."""
        self._due.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        now, told = time.monotonic(), record.getMessage()
        kind = f"{record.name} {record.levelname} {str(record.msg).partition(chr(10))[0][:_MESSAGE_CHARACTERS]}"
        if now < self._due.get(kind, 0.0):
            self._left_out[kind] += 1
            return False
        if len(self._due) >= _MOST_MESSAGES:
            self._due.clear()
        self._due[kind] = now + _LOG_EVERY_S
        if left_out := self._left_out.pop(kind, 0):
            record.msg, record.args = f"{told} (and {left_out} more like it)", ()
        return True


class CountedSocket(socket.socket):
    """A connection that is counted until it is closed."""

    count: ConnectionCount | None = None
    address = ""
    # Whether it has come as far as a protocol: with TLS, after the handshake.
    ready = False

    def close(self) -> None:
        """It is counted no more."""
        count, self.count = self.count, None
        if count is not None:
            count.give_back(self)
        super().close()


@dataclass
class ConnectionCount:
    """The connections that are open, by client and by descriptor."""

    limits: ConnectionLimits
    by_client: Counter[str] = field(default_factory=Counter)
    open: dict[int, CountedSocket] = field(default_factory=dict)

    def why_not(self, address: str) -> str:
        """Why a client gets no connection now; empty when it does."""
        client = client_of(address)
        if len(self.open) >= self.limits.connections:
            return f"all {self.limits.connections} connections are taken"
        if client and self.by_client[client] >= self.limits.per_address:
            return f"an address has its {self.limits.per_address} connections"
        return ""

    def take(self, connection: CountedSocket, address: str) -> None:
        """Count one more."""
        connection.count, connection.address = self, address
        self.open[connection.fileno()] = connection
        self.by_client[client_of(address)] += 1

    def give_back(self, connection: CountedSocket) -> None:
        """One that was counted ends."""
        del self.open[connection.fileno()]
        client = client_of(connection.address)
        self.by_client[client] -= 1
        if not self.by_client[client]:
            del self.by_client[client]


class CountingListener(socket.socket):
    """A listening socket that accepts only what the limits allow; it takes the place of the one that it is made of."""

    def __init__(self, listener: socket.socket, count: ConnectionCount) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self.settimeout(0)
        self._count = count

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is allowed; those before it are closed.

        Raises:
            BlockingIOError: There is none now.
        """
        for _ in range(_REFUSED_AT_ONCE):
            accepted, peer = super().accept()
            address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
            reason = self._count.why_not(address)
            if not reason:
                connection = CountedSocket(self.family, self.type, self.proto, fileno=accepted.detach())
                self._count.take(connection, address)
                self._limit_handshake(connection)
                return connection, peer
            accepted.close()
            _log.warning("connections are refused: %s", reason)
        raise BlockingIOError

    def _limit_handshake(self, connection: CountedSocket) -> None:
        def end() -> None:
            if not connection.ready and connection.fileno() >= 0:
                connection.shutdown(socket.SHUT_RDWR)

        asyncio.get_running_loop().call_later(self._count.limits.head_s, end)


class LimitedProtocol(H11Protocol):
    """A connection that is looked at again and again; `count` is that of all connections of the server."""

    count: ConnectionCount
    _timer: asyncio.TimerHandle | None = None
    _head_began: float | None = None
    _head_bytes = 0
    _unsent = (0, 0)
    _moved = 0.0

    def connection_made(self, transport: Any) -> None:
        """Its first request has to come in time."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        self.count.open[self._socket.fileno()].ready = True
        self._head_began = self._moved = self.loop.time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, whoever ended it."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A part of a request, or several."""
        if not self._is_answering():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self._end()
                return
            if self._head_began is None:
                self._head_began = self.loop.time()
        super().data_received(data)
        if self._is_answering():
            self._head_began, self._head_bytes = None, 0

    def send_400_response(self, msg: str) -> None:
        """Refuse an invalid request; once an answer has begun, only end the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self._end()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """End it if it takes too long for anything; uvicorn limits how long it may rest between two requests."""
        now, limits = self.loop.time(), self.count.limits
        unsent = (self.transport.get_write_buffer_size(), _not_taken(self._socket.fileno()))
        if unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        stalled = any(unsent) and now - self._moved >= limits.stalled_s
        late = self._head_began is not None and now - self._head_began >= limits.head_s
        if stalled or late:
            self._end()
            return
        every = min(limits.head_s, limits.stalled_s) / _LOOKS_PER_LIMIT
        self._timer = self.loop.call_later(every, self._look)

    def _end(self) -> None:
        # Or the kernel would go on offering what the client does not take.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def _not_taken(descriptor: int) -> int:
    """How many bytes the kernel has that the client has not acknowledged."""
    try:
        return int.from_bytes(ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def limited_protocol(count: ConnectionCount) -> type[LimitedProtocol]:
    """The protocol of one server, whose connections are counted together."""
    return type("ServersProtocol", (LimitedProtocol,), {"count": count})


def client_of(address: str) -> str:
    """What a client is counted by: its IPv4 address, or its network of IPv6; empty for the loopback."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback:
        return ""
    return str(ip_network((found, _CLIENTS_NETWORK), strict=False)) if isinstance(found, IPv6Address) else str(found)
