"""A server and clients that mean it no good, over real sockets on the loopback."""

from __future__ import annotations

import hashlib
import logging
import select
import socket
import ssl
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
from tests.fakes.certificates import loopback_tls
from tests.unit.updater.server.test_listen import START
from updater.server.app import create_app
from updater.server.limits import ConnectionLimits, SparingFilter, client_of
from updater.server.listen import bind, make_server

SHORT_S = 1.0
NEVER_S = 600.0
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
        for _ in range(2):
            client.sendall(GET)
            assert answer_of(client).startswith(b"HTTP/1.1 200")
            # The connection may rest for longer than a head may take.
            time.sleep(SHORT_S * 1.5)
        client.sendall(HALF)
        assert ends(client)


LARGE_GET = f"GET {OBJECT} HTTP/1.1\r\nHost: x\r\n".encode()


def narrow(address: tuple[str, int]) -> socket.socket:
    """A connection whose client's kernel takes little by itself."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
    client.connect(address)
    return client


def is_cut_unread(client: socket.socket) -> bool:
    """Whether the server ends a connection of which nothing is read."""
    watched = select.poll()
    watched.register(client, 0)
    return bool(watched.poll(ENDS_S * 1000))


@pytest.mark.parametrize(
    "sent",
    [
        LARGE_GET + b"\r\n",
        LARGE_GET + b"Connection: close\r\n\r\n",
        # The second request is begun without another word of the client.
        GET + LARGE_GET + b"\r\n",
        GET + GET + LARGE_GET + b"\r\n" + GET,
    ],
)
def test_who_takes_nothing_of_an_answer_is_cut_off(repository: Path, sent: bytes) -> None:
    limits = ConnectionLimits(50, 50, stalled_s=SHORT_S)
    with serving(repository, limits) as address, closing(narrow(address)) as client:
        client.sendall(sent)
        assert is_cut_unread(client)
        assert is_served(address)


def test_who_takes_little_is_not_cut_off(repository: Path) -> None:
    limits = ConnectionLimits(50, 50, stalled_s=SHORT_S)
    with serving(repository, limits) as address, closing(narrow(address)) as client:
        client.sendall(LARGE_GET + b"Connection: close\r\n\r\n")
        client.settimeout(ENDS_S)
        received, began = 0, time.monotonic()
        while piece := client.recv(4096 if time.monotonic() - began < 3 * SHORT_S else 1 << 20):
            received += len(piece)
            if len(piece) <= 4096:
                time.sleep(0.02)
        assert received > len(LARGE)


def test_what_is_no_request_in_the_middle_of_an_answer_ends_it_without_a_trace(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(repository, ConnectionLimits(50, 50)) as address, closing(narrow(address)) as client:
        client.sendall(LARGE_GET + b"Transfer-Encoding: chunked\r\n\r\n")
        assert client.recv(1)
        client.sendall(b"zz\r\n")
        assert ends(client)
        assert is_served(address)
    assert not [record for record in caplog.records if record.exc_info]


def test_one_connection_too_many_is_refused_and_room_is_used_again(repository: Path) -> None:
    with serving(repository, ConnectionLimits(5, 5, head_s=NEVER_S)) as address:
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
    limits = ConnectionLimits(50, 50, head_s=NEVER_S)
    with serving(repository, limits) as address, closing(socket.create_connection(address)) as client:
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


LITTLE = """
import resource
from dataclasses import replace
from updater.server.limits import ConnectionLimits

resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
usual = ConnectionLimits.of_descriptors
ConnectionLimits.of_descriptors = lambda descriptors: replace(usual(descriptors), head_s=2.0)
"""


@pytest.mark.parametrize("sent", [HALF, None], ids=["http", "https"])
def test_running_out_of_descriptors_costs_neither_the_others_nor_the_log(
    repository: Path, tmp_path: Path, sent: bytes | None
) -> None:
    ready, log, tls = tmp_path / "ready", tmp_path / "log", loopback_tls(tmp_path)
    limited = f"{LITTLE}\n{START}"
    words = [sys.executable, "-c", limited, str(repository), "--port", "0", "--ready-file", str(ready), "--quiet"]
    pem = str(tmp_path / "server.pem")
    words += ["--tls-certificate", pem, "--tls-key", pem] if sent is None else []
    with log.open("wb") as sink, process.start(words, stdout=sink, stderr=sink, cwd=Path.cwd()) as child:
        try:
            assert eventually(lambda: ready.exists() or _refuse())
            url = ready.read_text().strip()
            host, port = url.partition("://")[2].split(":")
            with ExitStack() as stack:
                for _ in range(300):
                    client = stack.enter_context(closing(socket.create_connection((host, int(port)))))
                    if sent is not None:
                        client.sendall(sent)
                # Those that wait for nothing go after the time for a head, or for a handshake.
                trusted = ssl.create_default_context(cadata=tls.ca)
                path = f"{url}/metadata/1.root.json"
                assert eventually(lambda: httpx.get(path, trust_env=False, timeout=ENDS_S, verify=trusted).is_success)
        finally:
            child.terminate()
            assert child.wait(timeout=60) == 0
    text = log.read_text()
    assert len(text) < 10_000
    assert "all 32 connections are taken" in text
    assert "Traceback" not in text


def _refuse() -> bool:
    raise httpx.ConnectError("not yet")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_network_and_the_loopback_is_none(address: str, client: str) -> None:
    assert client_of(address) == client


def test_a_client_has_its_share_and_others_the_rest(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updater.server.limits.client_of", lambda address: "" if address == "127.0.0.9" else address)
    with serving(repository, ConnectionLimits(6, 2, head_s=NEVER_S)) as address, ExitStack() as stack:

        def connect(source: str) -> socket.socket:
            made = socket.create_connection(address, source_address=(source, 0))
            return stack.enter_context(closing(made))

        held = [connect("127.0.0.1") for _ in range(2)]
        assert ends(connect("127.0.0.1"))
        held += [connect(source) for source in ("127.0.0.2", "127.0.0.9", "127.0.0.9", "127.0.0.9")]
        for each in held:
            each.sendall(GET)
            assert answer_of(each).startswith(b"HTTP/1.1 200")
        assert ends(connect("127.0.0.9"))


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
