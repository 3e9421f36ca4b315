from __future__ import annotations

import logging
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

import httpx
import pytest

from bedrock import process
from tests.fakes.certificates import loopback_tls
from updater.errors import UpdaterError
from updater.server.access import access_line
from updater.server.app import create_app
from updater.server.listen import bind, bind_all, handed_over, make_server

START = """
from bedrock.cli import run_command
from updater.server.cli import server

run_command(server, prog_name="server")
"""


def repository(tmp_path: Path) -> Path:
    (tmp_path / "repo" / "metadata").mkdir(parents=True)
    return tmp_path / "repo"


def test_free_port_is_bound_and_told() -> None:
    bound = bind("127.0.0.1", 0)
    with bound.listener:
        assert bound.port > 0
        assert bound.url == f"http://127.0.0.1:{bound.port}"


def test_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UpdaterError, match=f"cannot listen on 127.0.0.1 port {port}"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "", "300.1.1.1", "x" * 300])
def test_a_host_that_is_none_is_a_clear_error(host: str) -> None:
    with pytest.raises(UpdaterError, match=r"cannot listen on"):
        bind(host or "[]", 0)


def test_all_addresses_are_those_of_ipv4_as_well() -> None:
    bound = bind("::", 0)
    with bound.listener:
        assert bound.url == f"http://[::]:{bound.port}"
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, bound.port), timeout=60).close()


def test_several_addresses_have_one_port() -> None:
    found = bind_all(("127.0.0.1", "127.0.0.2", "::1"), 0)
    for each in found:
        with each.listener:
            socket.create_connection((each.host, found[0].port), timeout=60).close()


def test_of_several_addresses_none_is_kept_when_one_cannot_be_used() -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UpdaterError, match=r"127\.0\.0\.2"):
            bind_all(("127.0.0.1", "127.0.0.2"), port)
        with bind("127.0.0.1", port).listener:
            pass


@pytest.mark.parametrize("environment", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "77"}])
def test_without_sockets_of_its_own_systemd_hands_over_nothing(environment: dict[str, str]) -> None:
    assert handed_over(environment, 77) == ()


@pytest.mark.parametrize("count", ["x", "-"])
def test_a_count_of_sockets_that_is_none_is_a_clear_error(count: str) -> None:
    with pytest.raises(UpdaterError, match="systemd's sockets cannot be used"):
        handed_over({"LISTEN_PID": "77", "LISTEN_FDS": count}, 77)


def started_by_systemd(words: list[str], holder: socket.socket) -> list[str]:
    """A command line that starts a program with a socket as systemd does: descriptor 3, and the process's own id."""
    script = f'exec 3<&{holder.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    return ["bash", "-c", script, "bash", *words]


def test_a_server_that_systemd_starts_listens_where_systemd_does(tmp_path: Path) -> None:
    words = [sys.executable, "-c", START, str(repository(tmp_path)), "--port", "1"]
    with socket.create_server(("127.0.0.1", 0)) as holder:
        holder.set_inheritable(True)
        port = holder.getsockname()[1]
        script = started_by_systemd(words, holder)
        child = process.start(script, stdout=-1, cwd=Path.cwd(), pass_fds=(holder.fileno(),))
        with child:
            assert child.stdout is not None
            assert child.stdout.readline().decode() == f"listening on http://127.0.0.1:{port}\n"
            assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=60).status_code == 503
            child.terminate()
            assert child.wait(timeout=60) == 0
        # Nobody who connects meanwhile is refused.
        socket.create_connection(("127.0.0.1", port), timeout=60).close()


def test_a_socket_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.set_inheritable(True)
        script = started_by_systemd([sys.executable, "-c", START, str(repository(tmp_path))], holder)
        child = process.start(script, stderr=-1, cwd=Path.cwd(), pass_fds=(holder.fileno(),))
        with child:
            assert child.stderr is not None
            assert b"descriptor 3 is not a listening TCP socket" in child.stderr.read()
            assert child.wait(timeout=60) == 1


def test_https_is_served_with_the_certificate_that_was_given(tmp_path: Path) -> None:
    tls, pem = loopback_tls(tmp_path), str(tmp_path / "server.pem")
    words = [sys.executable, "-c", START, str(repository(tmp_path)), "--port", "0"]
    with process.start([*words, "--tls-certificate", pem, "--tls-key", pem], stdout=-1, cwd=Path.cwd()) as child:
        assert child.stdout is not None
        url = child.stdout.readline().decode().split()[-1]
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cadata=tls.ca)
        assert httpx.get(f"{url}/healthz", trust_env=False, timeout=60, verify=trusted).status_code == 503
        child.terminate()
        assert child.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tls-certificate", "server.pem"], "--tls-certificate and --tls-key belong together"),
        (["--tls-certificate", "wrong.pem", "--tls-key", "server.pem"], "the certificate or its key cannot be used"),
    ],
)
def test_a_certificate_without_its_key_is_refused(tmp_path: Path, words: list[str], told: str) -> None:
    loopback_tls(tmp_path)
    (tmp_path / "wrong.pem").write_text("no certificate")
    placed = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    command = [sys.executable, "-c", START, str(repository(tmp_path)), "--port", "0", *placed]
    done = process.run(command, timeout_s=60, check=False, cwd=Path.cwd())
    assert done.returncode != 0
    assert told in done.stderr


def test_server_announces_answers_logs_and_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="twinhull.access")
    bound = bind("127.0.0.1", 0)
    answering = threading.Event()
    server = make_server(create_app(repository(tmp_path)), answering.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.listener]})
    thread.start()
    try:
        assert answering.wait(timeout=60)
        assert httpx.get(f"{bound.url}/metadata/timestamp.json", trust_env=False, timeout=60).status_code == 404
    finally:
        server.should_exit = True
        thread.join(timeout=60)
    assert not thread.is_alive()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "twinhull.access"]
    assert "127.0.0.1 GET /metadata/timestamp.json 404" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_tells_its_address_and_ends_well_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    words = [sys.executable, "-c", START, str(repository(tmp_path)), "--port", "0", "--ready-file", str(ready)]
    child = process.start(words, stdout=-1, cwd=Path.cwd())
    with child:
        assert child.stdout is not None
        line = child.stdout.readline().decode()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.split()[-1]
        assert httpx.get(f"{url}/healthz", trust_env=False, timeout=60).status_code == 503
        assert ready.read_text() == f"{url}\n"
        child.send_signal(number)
        assert child.wait(timeout=60) == 0


def test_folder_without_a_repository_is_refused(tmp_path: Path) -> None:
    done = process.run([sys.executable, "-c", START, str(tmp_path)], timeout_s=60, check=False, cwd=Path.cwd())
    assert done.returncode == 1
    assert "there is no repository at" in done.stderr
    assert "twinhull repo init" in done.stderr


def test_log_line_cannot_be_forged_by_a_path() -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/a\n127.0.0.1 GET /b",
        "client": ("127.0.0.1", 5),
        "headers": [(b"range", b"bytes=1-\r\nx")],
    }
    line = access_line(scope, status=404, sent=3, seconds=0.001)
    assert line == "127.0.0.1 GET /a%0A127.0.0.1%20GET%20/b range=bytes=1-%0D%0Ax 404 3 bytes 1 ms"
