"""The agent's end of its network side: a real worker serves it, and one that lies can do nothing but fail."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zstandard

from bedrock import process
from bedrock.clock import SYSTEM_CLOCK, Clock
from tests.fakes.clock import TickingClock
from tests.fakes.http_server import Site, raw, serving, silent
from updater.errors import FetchError, NetworkSideError, RefusedError, UpdaterError
from updater.transfer.connection import PIPE_BYTES, Connect, Connection, Received, at_socket, started_here
from updater.transfer.messages import (
    MAX_CA_BYTES,
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
    read_reply,
    read_request,
)
from updater.transfer.worker import Worker

CONTENT = os.urandom(3 << 20)
PATH = "objects/ab/abcd"
DONE = Reply(outcome=Outcome(url="http://a"))


@dataclass
class Linked:
    """A connection and what it logged."""

    connection: Connection
    said: list[str] = field(default_factory=list)

    def object(self, size_bytes: int = len(CONTENT)) -> bytes:
        got = bytearray()
        self.connection.object(FetchObject(PATH, size_bytes, 0, size_bytes), got.extend)
        return bytes(got)


def linked(connect: Connect, *urls: str, clock: Clock = SYSTEM_CLOCK, read_s: float = 5.0) -> Linked:
    said: list[str] = []
    access = ServerAccess(urls, connect_s=5.0, read_s=read_s, document_s=0.5)
    return Linked(
        Connection(connect, access, clock, said.append, slack_s=4.5, mib_within_s=5.0, unpacked_mib_within_s=2.0), said
    )


# --- a real worker, in a process of its own


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={f"/{PATH}": CONTENT, "/doc.json": b"{}"})) as started:
        yield started


@pytest.fixture(scope="module")
def worker() -> Iterator[Connect]:
    """One worker process for all tests of this module that do not end it."""
    with started_here()() as kept:

        @contextmanager
        def connect() -> Iterator[socket.socket]:
            yield kept

        yield connect


def test_documents_objects_and_unpacked_bytes_come_from_the_worker(site: Site, worker: Connect, tmp_path: Path) -> None:
    it = linked(worker, site.url).connection
    assert it.document("doc.json", 100) == Received(b"{}", site.url, "")
    assert linked(worker, site.url).object() == CONTENT
    (tmp_path / "packed").write_bytes(zstandard.compress(CONTENT, 1))
    got = bytearray()
    with (tmp_path / "packed").open("rb") as stream:
        it.unpack(stream.fileno(), len(CONTENT), got.extend)
    assert bytes(got) == CONTENT


def test_what_went_wrong_comes_over_in_words(site: Site, worker: Connect, tmp_path: Path) -> None:
    it = linked(worker, site.url).connection
    with pytest.raises(FetchError, match=r"/none\.json: the server answers 404") as missing:
        it.document("none.json", 100)
    assert missing.value.status == 404
    site.special["/busy.json"] = raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 77\r\n\r\n")
    with pytest.raises(FetchError) as busy:
        it.document("busy.json", 100)
    assert busy.value.retry_after_s == 77.0
    with pytest.raises(RefusedError, match="longer than 1 bytes"):
        it.document("doc.json", 1)
    (tmp_path / "packed").write_bytes(b"<html>")
    with (tmp_path / "packed").open("rb") as stream, pytest.raises(RefusedError, match="cannot be unpacked"):
        it.unpack(stream.fileno(), 1000, lambda _: None)
    # After all of that the same worker serves on.
    assert it.document("doc.json", 100).content == b"{}"


def test_an_object_that_is_longer_than_signed_is_refused(site: Site, worker: Connect) -> None:
    with pytest.raises(RefusedError, match="not as long as signed"):
        linked(worker, site.url).object(len(CONTENT) - 1)


def test_a_file_of_another_form_than_it_says_is_unpacked_to_what_is_signed_and_no_more(
    worker: Connect, tmp_path: Path
) -> None:
    (tmp_path / "bomb").write_bytes(zstandard.compress(bytes(64 << 20), 1))
    got: list[int] = []
    with (tmp_path / "bomb").open("rb") as stream, pytest.raises(RefusedError, match="more than the 1000 bytes"):
        linked(started_here()).connection.unpack(stream.fileno(), 1000, lambda part: got.append(len(part)))
    assert sum(got) <= 1000


def test_as_many_certificates_as_are_allowed_reach_the_worker(site: Site, worker: Connect) -> None:
    access = ServerAccess((site.url,), ca="x" * MAX_CA_BYTES)
    with pytest.raises(FetchError, match="the additional certificates cannot be read"):
        Connection(worker, access, SYSTEM_CLOCK, print).document("doc.json", 100)


def test_one_server_alone_is_asked_when_that_is_wanted(site: Site, worker: Connect) -> None:
    with serving(Site(files={f"/{PATH}": CONTENT})) as other:
        it = linked(worker, site.url, other.url).connection
        assert it.servers == 2
        wanted = FetchObject(PATH, len(CONTENT), 0, len(CONTENT))
        assert it.object(wanted, lambda _: None) == site.url
        assert it.object(wanted, lambda _: None, only=1) == other.url
        other.files.clear()
        with pytest.raises(FetchError, match="404"):
            it.object(wanted, lambda _: None, only=1)
        assert it.object(wanted, lambda _: None) == site.url


def test_a_worker_is_started_when_it_is_needed_and_ends_when_it_is_let_go(site: Site) -> None:
    it, before = linked(started_here(), site.url).connection, workers()
    it.close()
    assert workers() == before
    it.document("doc.json", 100)
    assert len(workers() - before) == 1
    it.close()
    it.close()
    assert workers() == before
    it.document("doc.json", 100)
    it.close()


def workers() -> set[int]:
    """The processes that this one started and that run."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {int(pid) for path in children for pid in path.read_text().split()}
    return {pid for pid in pids if b"updater.transfer.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_worker_in_a_silent_transfer_ends_at_once_when_it_is_let_go(site: Site) -> None:
    site.special[f"/{PATH}"] = silent(site, b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\nx")
    it, before = linked(started_here(), site.url, read_s=60.0), workers()
    came = threading.Event()

    class StoppedError(Exception):
        """As from a signal."""

    def stop(_: memoryview) -> None:
        came.set()
        raise StoppedError

    began = time.monotonic()
    with pytest.raises(StoppedError):
        it.connection.object(FetchObject(PATH, len(CONTENT), 0, len(CONTENT)), stop)
    assert came.is_set()
    assert workers() == before
    assert time.monotonic() - began < 4.0


def test_a_worker_that_ends_in_the_middle_is_an_error_and_the_next_request_gets_a_new_one(site: Site) -> None:
    site.special[f"/{PATH}"] = silent(site, b"HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\nx")
    it, before = linked(started_here(), site.url, read_s=60.0), workers()

    def kill(_: memoryview) -> None:
        (pid,) = workers() - before
        os.kill(pid, 9)

    # A server may be what ended it: no trial is condemned for that.
    with pytest.raises(FetchError, match="ended before its answer"):
        it.connection.object(FetchObject(PATH, len(CONTENT), 0, len(CONTENT)), kill)
    assert it.connection.document("doc.json", 100).content == b"{}"
    it.connection.close()


def test_the_root_side_runs_no_parser_of_what_servers_send_and_the_worker_knows_no_trust() -> None:
    def loaded(module: str, names: str) -> list[str]:
        code = f"import json, sys, {module}; print(json.dumps([n for n in {names.split()!r} if n in sys.modules]))"
        found: list[str] = json.loads(process.run((sys.executable, "-c", code), timeout_s=60).stdout)
        return found

    assert loaded("updater.agent.cli", "urllib3 zstandard ssl http.client") == []
    assert loaded("updater.transfer.worker", "tuf cryptography securesystemslib updater.agent partitions click") == []


# --- a worker that a server took over

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


def test_a_socket_that_nobody_serves_is_named_with_what_to_do(tmp_path: Path) -> None:
    it = linked(at_socket(tmp_path / "transfer.socket"), "http://a").connection
    with pytest.raises(NetworkSideError, match=r"transfer\.socket cannot be reached: No such file") as caught:
        it.document("doc.json", 10)
    assert "systemctl restart twinhull-transfer.socket" in caught.value.hints[0]


def test_a_worker_behind_a_socket_is_reached(site: Site, tmp_path: Path) -> None:
    """As systemd does it: a process for each connection; here a thread, and no time limits of a request."""
    path = tmp_path / "transfer.socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        errors: list[str] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                Worker(connection).serve()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        it = linked(at_socket(path), site.url).connection
        # Off the main thread no alarm can be set: the worker says so, and it comes over as an error.
        with pytest.raises(FetchError, match="signal only works in main thread"):
            it.document("doc.json", 100)
        it.close()
        thread.join(10)
        assert errors == []


def test_the_longest_request_fits_a_packet() -> None:
    url = "https://" + "h" * 2000
    access = ServerAccess((url,) * 8, {"http": url, "https": url}, "n" * 2000, "c" * MAX_CA_BYTES)
    data = packed(Request(access, fetch_object=FetchObject(PATH, 1 << 44, 0, 1 << 44)))
    assert read_request(data).access == access
    with pytest.raises(ValueError, match="fit a packet"):
        packed(Request(ServerAccess((), ca="c" * (MAX_PACKET_BYTES + 1))))


def test_settings_that_are_too_long_are_named_and_leave_nothing_open(site: Site, worker: Connect) -> None:
    long = Connection(worker, ServerAccess((), ca="c" * (MAX_PACKET_BYTES + 1)), SYSTEM_CLOCK, print)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(UpdaterError, match=r"`ca:` are too long together: .* fit a packet"):
        long.document("doc.json", 10)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_kernel_that_allows_no_large_pipe_makes_it_only_slower(
    site: Site, worker: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: int, command: int, size: int) -> int:
        assert (command, size) == (fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("updater.transfer.connection.fcntl.fcntl", refuses)
    assert linked(worker, site.url).object() == CONTENT


def test_a_reply_is_read_back() -> None:
    assert read_reply(packed(DONE)) == DONE
