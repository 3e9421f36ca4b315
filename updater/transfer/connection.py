"""The agent's end of its network side: asks for bytes, and bounds what comes back in length and in time.

A worker that a server took over can lie, stop or send too much; here each of these ends in an error.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bedrock import process
from bedrock.clock import Clock
from bedrock.errors import DocumentError
from updater.errors import FetchError, NetworkSideError, RefusedError, UpdaterError
from updater.transfer.messages import (
    MAX_PACKET_BYTES,
    MOST_NOTICES,
    Failure,
    Fetch,
    FetchObject,
    Outcome,
    Request,
    ServerAccess,
    Unpack,
    packed,
    plain,
    read_reply,
)

PIPE_BYTES = 1 << 20
# The worker keeps shorter limits itself; these end one that does not.
SLACK_S = 60.0
MIB_WITHIN_S = 1200.0
# Nothing but this machine is waited for.
UNPACKED_MIB_WITHIN_S = 60.0
_END_WITHIN_S = 5.0

Sink = Callable[[memoryview], None]
Connect = Callable[[], AbstractContextManager[socket.socket]]


@dataclass(frozen=True)
class Received:
    """A document, where it came from, and what the server called it."""

    content: bytes
    url: str
    content_type: str


class NetworkSide(Protocol):
    """What the agent gets from servers; nothing of it was checked."""

    @property
    def servers(self) -> int:
        """How many servers there are to ask."""

    def document(self, path: str, limit: int) -> Received:
        """A document of at most `limit` bytes.

        Raises:
            FetchError: It is missing, or no server can be reached.
            RefusedError: It is longer.
        """

    def object(self, wanted: FetchObject, sink: Sink, *, only: int | None = None) -> str:
        """Pass the bytes of an object to `sink`; returns which server sent the last of them.

        With `only`, no other than the server of this number sends any.

        Raises:
            FetchError: It is missing, or does not come.
            RefusedError: It is not as long as signed.
        """

    def unpack(self, packed_file: int, raw_bytes: int, sink: Sink, *, arriving: bool = False) -> None:
        """Pass the raw bytes of the zstd file behind an open handle to `sink`; `arriving`: it comes from a server yet.

        Raises:
            RefusedError: It cannot be unpacked, or holds more.
        """

    def renew(self) -> None:
        """Let the worker go, and start the one that gets the next request."""

    def close(self) -> None:
        """Let the worker go; the next request gets a new one."""


@dataclass
class Connection:
    """A worker, started when it is first needed; `log` is given what a person should know.

    `slack_s` is how much longer than the worker's own limit a document may take, `mib_within_s` how long one MiB of
    anything else that servers send, and `unpacked_mib_within_s` one that is unpacked from a file.
    """

    connect: Connect
    access: ServerAccess
    clock: Clock
    log: Callable[[str], None]
    slack_s: float = SLACK_S
    mib_within_s: float = MIB_WITHIN_S
    unpacked_mib_within_s: float = UNPACKED_MIB_WITHIN_S
    _open: ExitStack = field(default_factory=ExitStack)
    _socket: socket.socket | None = None
    _notices: int = 0

    @property
    def servers(self) -> int:
        """How many servers there are to ask."""
        return len(self.access.urls)

    def document(self, path: str, limit: int) -> Received:
        """A document of at most `limit` bytes."""
        found = bytearray()

        def add(data: memoryview) -> None:
            found.extend(data)

        request = Request(self.access, fetch=Fetch(path, limit))
        outcome = self._ask(request, add, limit_bytes=limit + 1, total_s=self.access.document_s + self.slack_s)
        if len(found) > limit:
            raise RefusedError(f"{path} from {outcome.url} is longer than {limit} bytes")
        return Received(bytes(found), outcome.url, outcome.content_type)

    def object(self, wanted: FetchObject, sink: Sink, *, only: int | None = None) -> str:
        """Pass the bytes of an object from `start` to `stop` to `sink`."""
        length = wanted.stop - wanted.start
        access = self.access if only is None else replace(self.access, urls=(self.access.urls[only],))
        return self._ask(Request(access, fetch_object=wanted), sink, limit_bytes=length, exactly=True).url

    def unpack(self, packed_file: int, raw_bytes: int, sink: Sink, *, arriving: bool = False) -> None:
        """Pass the raw bytes of a zstd file to `sink`."""
        request = Request(replace(self.access, urls=()), unpack=Unpack(raw_bytes))
        mib_within_s = self.mib_within_s if arriving else self.unpacked_mib_within_s
        self._ask(request, sink, limit_bytes=raw_bytes, packed_file=packed_file, mib_within_s=mib_within_s)

    def renew(self) -> None:
        """End the connection, and make the next one, whose worker starts meanwhile."""
        self.close()
        self._socket = self._open.enter_context(self.connect())

    def close(self) -> None:
        """End the connection, and with it the worker."""
        if self._socket is not None:
            # Another thread may wait on it: closing alone would not wake that thread, nor tell the worker.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket = None
        self._open.close()

    def _ask(
        self,
        request: Request,
        sink: Sink,
        *,
        limit_bytes: int,
        total_s: float | None = None,
        exactly: bool = False,
        packed_file: int | None = None,
        mib_within_s: float | None = None,
    ) -> Outcome:
        watch = _Watch(self.clock, total_s, mib_within_s or self.mib_within_s)
        try:
            reader = self._send(request, packed_file)
            try:
                received, outcome = self._receive(reader, sink, limit_bytes, watch)
            finally:
                os.close(reader)
        except BaseException:
            # What the worker still sends would be taken for the answer to the next request.
            self.close()
            raise
        if outcome.failure is not None:
            raise _error_of(outcome)
        if exactly and received != limit_bytes:
            self.close()
            raise NetworkSideError(f"the network side handed over {received} of {limit_bytes} bytes as if all")
        return outcome

    def _send(self, request: Request, packed_file: int | None) -> int:
        """Send a request; the reading end of its pipe."""
        packet = _packet(request)
        self._notices = 0
        if self._socket is None:
            self._socket = self._open.enter_context(self.connect())
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            # Past a limit of the kernel's it is refused; a smaller pipe is only slower.
            with suppress(OSError):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            files = [writer] if packed_file is None else [writer, packed_file]
            socket.send_fds(self._socket, [packet], files)
        except OSError as error:
            os.close(reader)
            raise NetworkSideError(f"the network side cannot be asked: {error.strerror or error}") from error
        finally:
            os.close(writer)
        return reader

    def _receive(self, reader: int, sink: Sink, limit_bytes: int, watch: _Watch) -> tuple[int, Outcome]:
        """Everything that comes through the pipe, and the outcome after it."""
        buffer = memoryview(bytearray(PIPE_BYTES))
        outcome: Outcome | None = None
        received, open_pipe = 0, True
        while open_pipe or outcome is None:
            ready = watch.wait([*([reader] if open_pipe else []), *([self._fileno()] if outcome is None else [])])
            if reader in ready:
                count = os.readv(reader, [buffer])
                open_pipe = count > 0
                received += count
                if received > limit_bytes:
                    raise RefusedError(f"more than the {limit_bytes} bytes that were asked for came")
                if count:
                    watch.came(count)
                    sink(buffer[:count])
            elif ready:
                outcome = self._answer()
        return received, outcome

    def _fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def _answer(self) -> Outcome | None:
        """The outcome, or None when it was a notice."""
        try:
            data = b"" if self._socket is None else self._socket.recv(MAX_PACKET_BYTES)
        except OSError:
            data = b""
        if not data:
            # A server may be what ended it, so this says nothing of the image; a socket that is not there would.
            raise FetchError("the network side ended before its answer").with_hint(
                "see `journalctl --unit 'twinhull-transfer@*'`"
            )
        try:
            reply = read_reply(data)
        except DocumentError as error:
            raise NetworkSideError(f"the network side does not make sense: {error}") from error
        if reply.notice is not None:
            self._notices += 1
            if self._notices > MOST_NOTICES:
                raise NetworkSideError(f"the network side said more than {MOST_NOTICES} things and did not answer")
            self.log(plain(reply.notice.text))
        said = reply.outcome
        if said is None:
            return None
        return replace(said, reason=plain(said.reason), url=plain(said.url), content_type=plain(said.content_type))


class _Watch:
    """Bounds the waiting for the worker: in whole, or per MiB; the time that the disk takes does not count."""

    def __init__(self, clock: Clock, total_s: float | None, mib_within_s: float) -> None:
        self._clock = clock
        self._total_s = total_s
        self._limit_s = mib_within_s if total_s is None else total_s
        self._waited = 0.0
        self._credit = 0

    def wait(self, handles: list[int]) -> list[int]:
        """Those of the handles that are ready.

        Raises:
            FetchError: Nothing came in time.
        """
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        began = self._clock.steady()
        ready = [handle for handle, _ in poll.poll(max(0.0, self._limit_s - self._waited) * 1000)]
        self._waited += self._clock.steady() - began
        if not ready:
            raise FetchError(f"the network side was not done after {self._limit_s:.0f} s")
        return ready

    def came(self, amount: int) -> None:
        """Count bytes; with a limit per MiB, each one starts it anew."""
        self._credit += amount
        if self._total_s is None and self._credit >= 1 << 20:
            self._credit, self._waited = 0, 0.0


def at_socket(path: Path) -> Connect:
    """Workers that systemd starts, one for each connection to this socket."""

    @contextmanager
    def connect() -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as made:
            try:
                made.connect(str(path))
            except OSError as error:
                raise NetworkSideError(f"the network side at {path} cannot be reached: {error.strerror}").with_hint(
                    "start it: systemctl restart twinhull-transfer.socket"
                ) from error
            yield made

    return connect


def started_here() -> Connect:
    """Workers that this process starts, with its own rights: for a program that does not run on a host."""

    @contextmanager
    def connect() -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import sys; sys.path[:] = {sys.path!r}; from updater.transfer.worker import main; main()"
        with ours, theirs:
            worker = process.start((sys.executable, "-c", code), stdin=theirs.fileno(), stderr=None)
            try:
                theirs.close()
                yield ours
            finally:
                ours.close()
                _reap(worker)

    return connect


def _reap(worker: process.Running) -> None:
    try:
        worker.wait(_END_WITHIN_S)
    except process.StillRunningError:
        worker.kill()
        worker.wait()


def _packet(request: Request) -> bytes:
    try:
        return packed(request)
    except ValueError as error:
        raise UpdaterError(
            f"`url:`, `mirrors:`, `proxy:`, `no_proxy` and `ca:` are too long together: {error}"
        ) from error


def _error_of(outcome: Outcome) -> FetchError | RefusedError:
    if outcome.failure in (Failure.WRONG, Failure.DAMAGED):
        return RefusedError(outcome.reason)
    return FetchError(outcome.reason, status=outcome.status, retry_after_s=outcome.retry_after_s)
