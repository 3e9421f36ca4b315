"""Serves one connection of the agent: the program `/usr/lib/twinhull/bin/transfer`, whose standard input is the socket.

It ends when the agent hangs up, at any moment of a transfer.  Whatever goes wrong while a request is served becomes its
outcome: this is the border behind which nothing of a server is trusted, and no exception crosses it.
A worker that unpacks loads nothing that speaks HTTP or TLS, and one that fetches no zstd.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

from bedrock.clock import SYSTEM_CLOCK, Clock
from updater.transfer import messages
from updater.transfer.failure import TransferError
from updater.transfer.messages import REASON_LIMIT, Failure, Notice, Outcome, Reply, Request

if TYPE_CHECKING:
    from updater.transfer.fetching import Fetching

_MAX_FILES = 2


class Worker:
    """One connection; servers that failed are remembered for as long as it lasts."""

    def __init__(self, connection: socket.socket, clock: Clock = SYSTEM_CLOCK) -> None:
        self._connection = connection
        self._clock = clock
        self._notices_left = 0
        self._fetching: Fetching | None = None

    def serve(self) -> None:
        """Answer requests until the agent hangs up."""
        while True:
            packet, files, _, _ = socket.recv_fds(self._connection, messages.MAX_PACKET_BYTES, _MAX_FILES)
            if not packet:
                return
            self._notices_left = messages.MOST_NOTICES
            with _opened(files) as (sink, packed):
                outcome = self._outcome(packet, sink, packed)
            self._send(Reply(outcome=outcome))

    def _outcome(self, packet: bytes, sink: int, packed: BinaryIO | None) -> Outcome:
        try:
            return self._served(messages.read_request(packet), sink, packed)
        except TransferError as error:
            return Outcome(
                error.failure, str(error)[:REASON_LIMIT], status=error.status, retry_after_s=error.retry_after_s
            )
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: a server's bytes may have caused anything
            return Outcome(Failure.UNREACHABLE, f"{type(error).__name__}: {error}"[:REASON_LIMIT])

    def _served(self, request: Request, sink: int, packed: BinaryIO | None) -> Outcome:
        def pass_on(data: bytes) -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(sink, view) :]

        if request.unpack is not None and packed is not None:
            from updater.transfer.unpacking import unpack  # noqa: PLC0415 - see the module's docstring

            unpack(request.unpack, packed, pass_on)
            return Outcome()
        from updater.transfer.fetching import Fetching  # noqa: PLC0415 - see the module's docstring

        if self._fetching is None or self._fetching.access != request.access:
            self._fetching = Fetching.of(request.access, self._clock, self._say)
        return self._fetching.served(request, pass_on)

    def _say(self, text: str) -> None:
        self._notices_left -= 1
        if self._notices_left >= 0:
            self._send(Reply(notice=Notice(text[:REASON_LIMIT])))

    def _send(self, reply: Reply) -> None:
        self._connection.send(messages.packed(reply))


@contextmanager
def _opened(files: list[int]) -> Iterator[tuple[int, BinaryIO | None]]:
    """The pipe to write to, and the packed file if there is one; both are closed at the end."""
    sink, *more = files or [os.open(os.devnull, os.O_WRONLY)]
    packed = os.fdopen(more[0], "rb", buffering=0) if more else None
    try:
        yield sink, cast("BinaryIO | None", packed)
    finally:
        os.close(sink)
        if packed is not None:
            packed.close()


def end_with(connection: socket.socket) -> None:
    """End this process when the other end hangs up, whatever it is doing."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="hangup", daemon=True).start()


def main() -> NoReturn:
    """Serve the socket that is standard input."""
    connection = socket.socket(fileno=os.dup(0))
    end_with(connection)
    try:
        Worker(connection).serve()
    except (BrokenPipeError, ConnectionResetError):
        # The agent gave up: there is nobody left to be told.
        os._exit(0)
    sys.exit(0)


if __name__ == "__main__":
    main()
