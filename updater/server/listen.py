"""Runs the application: binds, serves, ends gracefully.

Rules: addresses are bound before anything is announced, so port 0 works and a script can wait for one line; a signal
lets running answers end, within limits.  Nagle's algorithm is off: head and body of an answer are written one after the
other, and the second would wait for the client's delayed acknowledgement of the first (40 ms).
Source: sd_listen_fds(3) for sockets that systemd holds, so that a restart refuses nobody.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from updater.errors import UpdaterError
from updater.server.limits import (
    HEAD_LIMIT_BYTES,
    NOT_SENT_BYTES,
    ConnectionCount,
    ConnectionLimits,
    CountingListener,
    limited_protocol,
    raise_descriptors,
)

SHUTDOWN_LIMIT_S = 10
KEEP_ALIVE_S = 30
BACKLOG = 512
# Python 3.11 has no name for it (linux/tcp.h).
_TCP_NOTSENT_LOWAT = 25
USUAL_LIMITS = ConnectionLimits.of_descriptors(1024)
_FIRST_SYSTEMD_SOCKET = 3


@dataclass(frozen=True)
class Bound:
    """A listening socket and the address it really has."""

    listener: socket.socket
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as the start of a URL."""
        return self.url_of("http")

    def url_of(self, scheme: str) -> str:
        """The same with a scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


@dataclass(frozen=True)
class TlsFiles:
    """The server's certificate, with those that lead to its issuer, and its key; both PEM."""

    certificate: Path
    key: Path


def bind(host: str, port: int) -> Bound:
    """Bind and listen; port 0 takes any free one, and `::` takes IPv4 as well.

    Raises:
        UpdaterError: The address cannot be used.
    """
    hint = "choose another one with --host and --port; port 0 takes a free one"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = (
            family == socket.AF_INET6 and IPv6Address(address[0]) == IPv6Address("::") and socket.has_dualstack_ipv6()
        )
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        message = f"cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}"
        raise UpdaterError(message).with_hint(hint) from error
    return _listening(listener, host)


def bind_all(hosts: Sequence[str], port: int) -> tuple[Bound, ...]:
    """Bind each address, all at the same port; with port 0 it is the one that the first address got.

    Raises:
        UpdaterError: An address cannot be used; none is bound then.
    """
    with ExitStack() as stack:
        found: list[Bound] = []
        for host in hosts:
            bound = bind(host, found[0].port if found else port)
            stack.enter_context(bound.listener)
            found.append(bound)
        stack.pop_all()
    return tuple(found)


def handed_over(environment: Mapping[str, str], process_id: int) -> tuple[Bound, ...]:
    """The listening sockets that systemd started this process with; none is not an error.

    Raises:
        UpdaterError: They are not TCP sockets that listen.
    """
    if environment.get("LISTEN_PID") != str(process_id):
        return ()
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
        return tuple(_taken_over(_FIRST_SYSTEMD_SOCKET + number) for number in range(count))
    except (OSError, ValueError) as error:
        raise UpdaterError(f"systemd's sockets cannot be used: {error}").with_hint(
            "the socket unit needs ListenStream= with an address or a port"
        ) from error


def _taken_over(descriptor: int) -> Bound:
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ValueError(f"descriptor {descriptor} is not a listening TCP socket")
    return _listening(listener, str(listener.getsockname()[0]))


def _listening(listener: socket.socket, host: str) -> Bound:
    # What is accepted inherits both.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
    return Bound(listener, host, listener.getsockname()[1])


class AnnouncingServer(uvicorn.Server):
    """Counts connections, and calls back once requests are being answered."""

    def __init__(self, config: uvicorn.Config, count: ConnectionCount, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._count = count
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then report."""
        await super().startup([CountingListener(each, self._count) for each in sockets or ()])
        self._announce()


def make_server(
    app: ASGIApp,
    announce: Callable[[], None],
    *,
    limits: ConnectionLimits = USUAL_LIMITS,
    tls: TlsFiles | None = None,
) -> AnnouncingServer:
    """A server for `app` that is not running yet; `should_exit` ends it.

    Args:
        app: What answers.
        announce: Called once requests are answered.
        limits: What a client may take.
        tls: The server's certificate and key; without them it speaks plain HTTP.

    Raises:
        UpdaterError: Certificate or key cannot be used.
    """
    count = ConnectionCount(limits)
    config = uvicorn.Config(
        app,
        http=limited_protocol(count),
        backlog=BACKLOG,
        ws="none",
        h11_max_incomplete_event_size=HEAD_LIMIT_BYTES,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
    )
    try:
        config.load()
    except OSError as error:
        # ssl.SSLError is one, too.
        raise UpdaterError(f"the certificate or its key cannot be used: {error.strerror or error}").with_hint(
            "both are PEM; the key belongs to the first certificate and has no passphrase"
        ) from error
    return AnnouncingServer(config, count, announce)


def serve(app: ASGIApp, bound: Sequence[Bound], announce: Callable[[], None], *, tls: TlsFiles | None = None) -> None:
    """Answer requests until SIGINT or SIGTERM, then return, because a signal is not a failure.

    Raises:
        UpdaterError: Certificate or key cannot be used.
    """
    with ExitStack() as stack:
        listeners = [stack.enter_context(each.listener) for each in bound]
        limits = ConnectionLimits.of_descriptors(raise_descriptors())
        server = make_server(app, announce, limits=limits, tls=tls)
        try:
            server.run(sockets=listeners)
        except (KeyboardInterrupt, SystemExit):
            # uvicorn raises the signal again after an orderly shutdown; every other exception is passed on.
            if not (server.started and server.should_exit):
                raise
