"""A worker that a server took over: whatever it says, it can do nothing but fail."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bedrock.clock import SYSTEM_CLOCK, Clock
from tests.fakes.clock import TickingClock
from tests.fakes.linked_connection import CONTENT, DONE, PATH, linked
from updater.errors import FetchError, NetworkSideError, RefusedError, UpdaterError
from updater.transfer.connection import Connect, Connection
from updater.transfer.messages import (
    MAX_PACKET_BYTES,
    MOST_NOTICES,
    Failure,
    FetchObject,
    Notice,
    Outcome,
    Reply,
    Request,
    ServerAccess,
    packed,
    read_request,
)

Script = Callable[[socket.socket, Request, int], None]


@contextmanager
def lying(*scripts: Script) -> Iterator[tuple[Connect, list[Request]]]:
    """A worker that plays one script for each request, then hangs up."""
    asked: list[Request] = []
    left = list(scripts)
    threads: list[threading.Thread] = []

    def serve(theirs: socket.socket) -> None:
        with theirs, suppress(OSError):
            while left:
                packet, files, _, _ = socket.recv_fds(theirs, MAX_PACKET_BYTES, 2)
                if not packet:
                    return
                request = read_request(packet)
                asked.append(request)
                try:
                    left.pop(0)(theirs, request, files[0])
                finally:
                    for file in files:
                        os.close(file)

    @contextmanager
    def connect() -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threads.append(threading.Thread(target=serve, args=(theirs,), daemon=True))
        threads[-1].start()
        with ours:
            yield ours

    yield connect, asked
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def says(*replies: Reply, first: bytes = b"") -> Script:
    def play(connection: socket.socket, _: Request, sink: int) -> None:
        write_all(sink, first)
        for reply in replies:
            connection.send(packed(reply))

    return play


def sends(packet: bytes, first: bytes = b"") -> Script:
    def play(connection: socket.socket, _: Request, sink: int) -> None:
        write_all(sink, first)
        connection.send(packet)

    return play


def write_all(sink: int, data: bytes) -> None:
    view = memoryview(data)
    with suppress(BrokenPipeError):
        while view:
            view = view[os.write(sink, view) :]


def refused(*scripts: Script, clock: Clock = SYSTEM_CLOCK) -> UpdaterError:
    with lying(*scripts) as (connect, _):
        it = linked(connect, "http://a", clock=clock)
        with pytest.raises(UpdaterError) as caught:
            it.object()
        it.connection.close()
    return caught.value


def test_what_the_worker_says_on_the_way_is_logged() -> None:
    said = (Reply(notice=Notice("asked again in 120 s")), Reply(notice=Notice("and again")))
    with lying(says(*said, DONE, first=CONTENT)) as (connect, _):
        it = linked(connect, "http://a")
        assert it.object() == CONTENT
        assert it.said == ["asked again in 120 s", "and again"]
        it.connection.close()


def test_more_bytes_than_were_asked_for_are_refused() -> None:
    assert "more than the 3145728 bytes" in str(refused(says(DONE, first=CONTENT + b"x")))


def test_endless_bytes_are_refused_and_not_passed_on() -> None:
    def endless(_: socket.socket, __: Request, sink: int) -> None:
        with suppress(BrokenPipeError):
            while True:
                os.write(sink, bytes(1 << 16))

    got: list[int] = []
    with lying(endless) as (connect, _):
        it = linked(connect, "http://a")
        with pytest.raises(RefusedError):
            it.connection.object(FetchObject(PATH, 100_000, 0, 100_000), lambda part: got.append(len(part)))
        it.connection.close()
    assert sum(got) <= 100_000


@pytest.mark.parametrize("count", [0, 1, len(CONTENT) - 1])
def test_fewer_bytes_that_are_said_to_be_all_are_an_error(count: int) -> None:
    error = refused(says(DONE, first=CONTENT[:count]))
    assert f"{count} of {len(CONTENT)} bytes as if all" in str(error)


@pytest.mark.parametrize(
    "packet",
    [
        b"garbage",
        b"{}",
        b"[]",
        b'{"outcome": 5}',
        b'{"outcome": {"failure": "unheard-of"}}',
        b'{"outcome": {}, "more": 1}',
        b'{"outcome": {"retry_after_s": 1e999}}',
        b'{"outcome": {"retry_after_s": 1e9}}',
        b'{"outcome": {"retry_after_s": -1}}',
        b'{"outcome": {"status": -5}}',
        b'{"outcome": {"status": ' + b"9" * 5000 + b"}}",
        b'{"outcome": ' * 2000,
        b"\xff" * MAX_PACKET_BYTES,
    ],
)
def test_a_packet_that_makes_no_sense_is_an_error(packet: bytes) -> None:
    error = refused(sends(packet, first=CONTENT))
    assert isinstance(error, NetworkSideError)
    assert len(str(error)) < 2000


def test_a_worker_that_hangs_up_in_the_middle_is_an_error() -> None:
    assert "ended before its answer" in str(refused(says(first=CONTENT[:1000])))
    assert "ended before its answer" in str(refused(says(first=CONTENT)))


def test_an_outcome_that_comes_before_the_bytes_does_not_end_the_reading() -> None:
    def outcome_first(connection: socket.socket, _: Request, sink: int) -> None:
        connection.send(packed(DONE))
        write_all(sink, CONTENT)

    with lying(outcome_first) as (connect, _):
        it = linked(connect, "http://a")
        assert it.object() == CONTENT
        it.connection.close()


def test_an_answer_to_another_request_is_not_taken_for_ours() -> None:
    # After an error the worker is released: what it still says is never read.
    with lying(says(DONE, DONE, DONE, first=b"few"), says(DONE, first=CONTENT)) as (connect, asked):
        it = linked(connect, "http://a")
        with pytest.raises(NetworkSideError):
            it.object()
        assert it.object() == CONTENT
        assert len(asked) == 2
        it.connection.close()


def test_a_document_that_is_longer_than_its_limit_is_refused() -> None:
    with lying(says(DONE, first=bytes(11))) as (connect, _):
        it = linked(connect, "http://a")
        with pytest.raises(RefusedError, match="longer than 10 bytes"):
            it.connection.document("doc.json", 10)
        it.connection.close()


def never(_: socket.socket, __: Request, sink: int) -> None:
    """Hold the pipe open and say nothing until the other end hangs up."""
    with suppress(OSError):
        while True:
            time.sleep(0.01)
            os.write(sink, b"")
            if hung_up(sink):
                return


def hung_up(sink: int) -> bool:
    poll = select.poll()
    poll.register(sink, 0)
    return bool(poll.poll(0))


def test_a_worker_that_never_answers_is_given_up() -> None:
    with lying(never) as (connect, _):
        it = Connection(connect, ServerAccess((), document_s=0.1), SYSTEM_CLOCK, print, slack_s=0.1, mib_within_s=0.2)
        began = time.monotonic()
        with pytest.raises(FetchError, match="not done after"):
            it.document("doc.json", 10)
        assert time.monotonic() - began < 2.0
        it.close()


def trickle(_: socket.socket, __: Request, sink: int) -> None:
    """A byte now and then, for ever."""
    with suppress(BrokenPipeError):
        while True:
            os.write(sink, b"x")


@pytest.mark.parametrize(("what", "within_s"), [("document", 5), ("object", 5), ("arriving", 5), ("unpack", 2)])
def test_a_worker_that_trickles_is_given_up(what: str, within_s: int, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"")
    with lying(trickle) as (connect, _), (tmp_path / "packed").open("rb") as stream:
        it = linked(connect, "http://a", clock=TickingClock(0.5)).connection
        asks: dict[str, Callable[[], object]] = {
            "document": lambda: it.document("doc.json", 1 << 20),
            "object": lambda: it.object(FetchObject(PATH, 1 << 30, 0, 1 << 30), lambda _: None),
            "arriving": lambda: it.unpack(stream.fileno(), 1 << 30, lambda _: None, arriving=True),
            "unpack": lambda: it.unpack(stream.fileno(), 1 << 30, lambda _: None),
        }
        with pytest.raises(FetchError, match=f"not done after {within_s} s"):
            asks[what]()
        it.close()


def test_a_worker_that_says_things_for_ever_is_given_up() -> None:
    def talk(connection: socket.socket, _: Request, __: int) -> None:
        with suppress(OSError):
            while True:
                connection.send(packed(Reply(notice=Notice("wait a moment"))))

    with lying(talk) as (connect, _):
        it = linked(connect, "http://a")
        with pytest.raises(NetworkSideError, match="said more than 50 things"):
            it.object()
        assert len(it.said) == MOST_NOTICES
        it.connection.close()


def test_the_time_that_the_disk_takes_does_not_count() -> None:
    clock = TickingClock(0.0)
    with lying(says(DONE, first=CONTENT)) as (connect, _):
        it = linked(connect, "http://a", clock=clock)
        it.connection.object(FetchObject(PATH, len(CONTENT), 0, len(CONTENT)), lambda _: clock.sleep(60.0))
        it.connection.close()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure.UNREACHABLE, FetchError),
        (Failure.MISSING, FetchError),
        (Failure.WRONG, RefusedError),
        (Failure.DAMAGED, RefusedError),
    ],
)
def test_each_failure_has_its_error(failure: Failure, kind: type[UpdaterError]) -> None:
    error = refused(says(Reply(outcome=Outcome(failure, "why"))))
    assert type(error) is kind
    assert str(error) == "why"


def test_what_the_worker_says_cannot_play_with_a_terminal_or_fill_a_journal() -> None:
    nasty = "\x1b]0;owned\x07\nNov 27 host kernel: \u202eall is well" + "x" * 100_000
    with lying(says(Reply(notice=Notice(nasty)), Reply(outcome=Outcome(Failure.MISSING, nasty)))) as (connect, _):
        it = linked(connect, "http://a")
        with pytest.raises(FetchError) as caught:
            it.object()
        for text in (str(caught.value), *it.said):
            assert text.startswith("?]0;owned??Nov 27 host kernel: ?all is well")
            assert len(text) <= 1000
        it.connection.close()
