"""The daemon's word to systemd that it is alive."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bedrock.progress import Silent
from tests.fakes.clock import FakeClock
from updater.agent.alive import PIECE_S, Alive, AliveClock, AliveProgress

LIMIT_S = 5


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(LIMIT_S)
        yield channel


def count(heard: socket.socket) -> int:
    heard.settimeout(0)
    found = 0
    while True:
        try:
            assert heard.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            return found
        found += 1


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_it(tmp_path: Path, *, abstract: bool) -> None:
    name = f"@twinhull-test-{tmp_path.name}" if abstract else str(tmp_path / "socket")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.bind(name.replace("@", "\0", 1))
        channel.settimeout(LIMIT_S)
        Alive(name).say()
        assert channel.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("name", [None, "", "/nonexistent/notify"])
def test_nobody_has_to_listen(name: str | None) -> None:
    Alive(name).say()


def test_a_wait_says_it_in_pieces_and_takes_as_long(heard: socket.socket, tmp_path: Path) -> None:
    clock = FakeClock()
    watched = AliveClock(clock, Alive(str(tmp_path / "notify")))
    before = watched.steady()
    watched.sleep(2.5 * PIECE_S)
    assert clock.steady() - before == 2.5 * PIECE_S
    assert watched.now() == clock.now()
    assert count(heard) == 4


def test_an_update_says_it_as_it_gets_on(heard: socket.socket, tmp_path: Path) -> None:
    progress = AliveProgress(Silent(), Alive(str(tmp_path / "notify")))
    progress.step("root", total=10)
    progress.advance(5)
    progress.advance(5)
    assert count(heard) == 3
