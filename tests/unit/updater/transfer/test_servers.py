"""The order of servers and the pauses between tries."""

from __future__ import annotations

import pytest

from tests.fakes.clock import FakeClock
from updater.transfer.failure import TransferError
from updater.transfer.servers import LONGEST_PAUSE_S, Servers, pause_s
from updater.transfer.urls import joined, shown

GONE = TransferError("gone")


@pytest.mark.parametrize("tries", [0, *range(1, 12), 10_000])
def test_pauses_grow_and_stay_bounded(tries: int) -> None:
    assert 0.5 <= pause_s(tries, 0.0) <= pause_s(tries, 0.99) <= LONGEST_PAUSE_S


def test_a_server_that_failed_is_asked_last_and_a_round_of_all_is_followed_by_a_pause() -> None:
    servers = Servers(["a", "b", "c"], FakeClock(), print, lambda: 0.0)
    assert [servers.failed(GONE, tries) for tries in range(1, 7)] == [0.0, 0.0, 0.5, 0.0, 0.0, 1.0]
    assert servers.urls == ["a", "b", "c"]
    servers.failed(GONE, 7)
    assert servers.first == "b"


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    servers = Servers(["a"], FakeClock(), print, lambda: 0.0)
    assert servers.failed(TransferError("busy", retry_after_s=120.0), 1) == 120.0
    assert servers.failed(TransferError("busy", retry_after_s=0.1), 1) == 0.5


def test_a_long_pause_is_announced_without_a_password() -> None:
    said: list[str] = []
    clock = FakeClock()
    servers = Servers(["http://me:hunter2@a/x"], clock, said.append)
    servers.pause(5.0, GONE)
    assert said == []
    servers.pause(120.0, GONE)
    servers.pause(0.0, GONE)
    assert said == ["http://a/x: gone; asked again in 120 s"]
    assert clock.slept == [5.0, 120.0]


def test_urls_are_joined_and_shown_without_passwords() -> None:
    assert joined("http://a", "x/y") == joined("http://a/", "x/y") == "http://a/x/y"
    assert shown("https://me:pw@a:8080/x") == "https://a:8080/x"
    assert shown("https://me:p@ss@a/x") == "https://a/x"
    assert shown("http://me:pw@[::1") == "(not a URL)"
