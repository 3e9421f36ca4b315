from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from bedrock import process
from updater.errors import UpdaterError
from updater.server.access import access_line
from updater.server.app import create_app
from updater.server.listen import bind, make_server

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
