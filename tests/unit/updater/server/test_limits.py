"""A server and clients that mean it no good, over real sockets on the loopback."""

from __future__ import annotations

import hashlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

import httpx
import pytest

from bedrock import process
from tests.unit.updater.server.test_listen import START
from updater.server.app import create_app
from updater.server.limits import ConnectionCount, ConnectionLimits, SparingFilter
from updater.server.listen import bind, make_server

SHORT_S = 0.4
LARGE = bytes(8 << 20)
DIGEST = hashlib.sha256(LARGE).hexdigest()
OBJECT = f"/objects/{DIGEST[:2]}/{DIGEST}"
HALF = b"GET /metadata/1.root.json HTTP/1.1\r\nHost: x\r\n"
GET = HALF + b"\r\n"
ENDS_S = 20.0


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    base = tmp_path / "repo"
    for name, content in {"/metadata/1.root.json": b"{}", OBJECT: LARGE}.items():
        path = base / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base


@contextmanager
def serving(repository: Path, limits: ConnectionLimits) -> Iterator[tuple[str, int]]:
    bound = bind("127.0.0.1", 0)
    answering = threading.Event()
    server = make_server(create_app(repository), answering.set, limits=limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.listener]})
    thread.start()
    try:
        assert answering.wait(timeout=60)
        yield "127.0.0.1", bound.port
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        bound.listener.close()
    assert not thread.is_alive()


def ends(client: socket.socket) -> bool:
    """Whether the server ends the connection before a test's patience does; what it says before is passed over."""
    client.settimeout(ENDS_S)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def send_for_ever(client: socket.socket, piece: bytes, *, pause_s: float = 0.0) -> None:
    """Send the same again and again, until a test's patience ends."""
    began = time.monotonic()
    while time.monotonic() - began < ENDS_S:
        client.sendall(piece)
        time.sleep(pause_s)


def answer_of(client: socket.socket) -> bytes:
    """The answer to `GET`."""
    client.settimeout(ENDS_S)
    received = b""
    while not received.endswith(b"\r\n\r\n{}"):
        piece = client.recv(65536)
        assert piece, received
        received += piece
    return received


def is_served(address: tuple[str, int]) -> bool:
    url = f"http://{address[0]}:{address[1]}/metadata/1.root.json"
    return httpx.get(url, trust_env=False, timeout=ENDS_S).content == b"{}"


@pytest.mark.parametrize("sent", [b"", HALF])
def test_a_request_that_does_not_come_is_not_waited_for(repository: Path, sent: bytes) -> None:
    with (
        serving(repository, ConnectionLimits(50, 50, head_s=SHORT_S)) as address,
        closing(socket.create_connection(address)) as client,
    ):
        client.sendall(sent)
        assert ends(client)
        assert is_served(address)


def test_a_request_that_comes_by_the_byte_is_not_waited_for(repository: Path) -> None:
    with (
        serving(repository, ConnectionLimits(50, 50, head_s=SHORT_S)) as address,
        closing(socket.create_connection(address)) as client,
        pytest.raises(ConnectionError),
    ):
        send_for_ever(client, b"G", pause_s=SHORT_S / 4)


def test_the_second_request_of_a_connection_has_its_own_time(repository: Path) -> None:
    with (
        serving(repository, ConnectionLimits(50, 50, head_s=SHORT_S)) as address,
        closing(socket.create_connection(address)) as client,
    ):
        for _ in range(3):
            client.sendall(GET)
            assert answer_of(client).startswith(b"HTTP/1.1 200")
            # The connection may rest for longer than a head may take.
            time.sleep(SHORT_S * 1.5)
        client.sendall(HALF)
        assert ends(client)


def test_who_takes_nothing_of_an_answer_is_cut_off(repository: Path) -> None:
    with (
        serving(repository, ConnectionLimits(50, 50, stalled_s=SHORT_S)) as address,
        closing(socket.create_connection(address)) as client,
    ):
        client.sendall(f"GET {OBJECT} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(SHORT_S * 5)
        received = 0
        client.settimeout(ENDS_S)
        try:
            while piece := client.recv(1 << 20):
                received += len(piece)
        except ConnectionError:
            pass
        assert received < len(LARGE)
        assert is_served(address)


def test_who_is_slow_and_takes_something_gets_everything(repository: Path) -> None:
    with (
        serving(repository, ConnectionLimits(50, 50, stalled_s=SHORT_S)) as address,
        closing(socket.create_connection(address)) as client,
    ):
        client.sendall(f"GET {OBJECT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        client.settimeout(ENDS_S)
        received = 0
        while piece := client.recv(256 << 10):
            received += len(piece)
            time.sleep(SHORT_S / 10)
        assert received > len(LARGE)


def test_one_connection_too_many_is_refused_and_room_is_used_again(repository: Path) -> None:
    with serving(repository, ConnectionLimits(5, 5)) as address:
        with ExitStack() as stack:
            held = [stack.enter_context(closing(socket.create_connection(address))) for _ in range(5)]
            held[0].sendall(GET)
            assert answer_of(held[0]).startswith(b"HTTP/1.1 200")
            with closing(socket.create_connection(address)) as late:
                assert ends(late)
        assert eventually(lambda: is_served(address))


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it is so before a test's patience ends; refused connections are tried again."""
    deadline = time.monotonic() + ENDS_S
    while time.monotonic() < deadline:
        try:
            return true()
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def test_a_head_without_end_is_refused(repository: Path) -> None:
    with serving(repository, ConnectionLimits(50, 50)) as address, closing(socket.create_connection(address)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            send_for_ever(client, b"X-Long: " + b"x" * 1000 + b"\r\n")


def test_small_answers_on_one_connection_do_not_wait_for_acknowledgements(repository: Path) -> None:
    with serving(repository, ConnectionLimits(50, 50)) as (host, port), httpx.Client(trust_env=False) as client:
        url = f"http://{host}:{port}/metadata/1.root.json"
        taken = []
        for _ in range(60):
            began = time.monotonic()
            assert client.get(url).status_code == 200
            taken.append(time.monotonic() - began)
        # With Nagle's algorithm most take 40 ms and more.
        assert median(taken) < 0.03


def test_running_out_of_descriptors_costs_neither_the_others_nor_the_log(repository: Path, tmp_path: Path) -> None:
    ready, log = tmp_path / "ready", tmp_path / "log"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\n{START}"
    words = [sys.executable, "-c", limited, str(repository), "--port", "0", "--ready-file", str(ready), "--quiet"]
    with log.open("wb") as sink, process.start(words, stdout=sink, stderr=sink, cwd=Path.cwd()) as child:
        try:
            assert eventually(lambda: ready.exists() or _refuse())
            host, port = ready.read_text().strip().removeprefix("http://").split(":")
            with ExitStack() as stack:
                for _ in range(300):
                    client = stack.enter_context(closing(socket.create_connection((host, int(port)))))
                    client.sendall(HALF)
                # Those that wait for nothing go after the time for a head.
                assert eventually(lambda: is_served((host, int(port))))
        finally:
            child.terminate()
            assert child.wait(timeout=60) == 0
    assert log.stat().st_size < 10_000


def _refuse() -> bool:
    raise httpx.ConnectError("not yet")


def test_an_address_has_its_share_and_a_proxy_on_the_loopback_all() -> None:
    count = ConnectionCount(ConnectionLimits(10, 2))
    assert [count.take("192.0.2.1") for _ in range(2)] == ["", ""]
    assert "an address has its 2 connections" in count.take("192.0.2.1")
    assert [count.take("127.0.0.1") for _ in range(5)] == [""] * 5
    assert [count.take("::1"), count.take("192.0.2.2"), count.take("192.0.2.3")] == [""] * 3
    assert "all 10 connections are taken" in count.take("192.0.2.4")
    count.give_back("192.0.2.1")
    assert count.take("192.0.2.1") == ""
    for address in ("192.0.2.1", "192.0.2.1"):
        count.give_back(address)
    assert "192.0.2.1" not in count.by_address


@pytest.mark.parametrize(("descriptors", "connections"), [(1 << 20, 10_000), (1024, 480), (128, 32), (10, 1)])
def test_the_limits_follow_from_the_descriptors(descriptors: int, connections: int) -> None:
    limits = ConnectionLimits.of_descriptors(descriptors)
    assert limits.connections == connections
    assert 1 <= limits.per_address <= connections


def test_a_message_that_comes_again_and_again_is_written_once_and_counted() -> None:
    sparing = SparingFilter()
    record = logging.LogRecord("x", logging.WARNING, "", 0, "refused: %s", ("a",), None)
    again = logging.LogRecord("x", logging.WARNING, "", 0, "refused: %s", ("b",), None)
    other = logging.LogRecord("x", logging.WARNING, "", 0, "else", (), None)
    assert [sparing.filter(each) for each in (record, again, again, other)] == [True, False, False, True]
    sparing.forget()
    assert sparing.filter(again)
    assert again.getMessage() == "refused: b (and 2 more like it)"
