"""The agent's end of its network side, served by a real worker."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from bedrock import process
from bedrock.clock import SYSTEM_CLOCK
from tests.fakes.http_server import Site, raw, serving, silent
from tests.fakes.linked_connection import CONTENT, DONE, PATH, linked
from updater.errors import FetchError, NetworkSideError, RefusedError, UpdaterError
from updater.transfer.connection import PIPE_BYTES, Connect, Connection, Received, at_socket, started_here
from updater.transfer.messages import (
    MAX_CA_BYTES,
    MAX_PACKET_BYTES,
    FetchObject,
    Request,
    ServerAccess,
    packed,
    read_reply,
    read_request,
)
from updater.transfer.worker import Worker


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
