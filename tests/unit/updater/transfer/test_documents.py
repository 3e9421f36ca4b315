"""A document: whole or not at all, from whichever server has it, within one time limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.clock import FakeClock, TickingClock
from tests.fakes.http_server import Site, raw, serving, trickled
from updater.transfer.documents import TRIES, FetchedDocument, fetch
from updater.transfer.failure import TransferError
from updater.transfer.http import Http
from updater.transfer.messages import Failure, Fetch, ServerAccess
from updater.transfer.servers import Servers

PATH = "metadata/timestamp.json"
HERE = f"/{PATH}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={HERE: b"{}"})) as started:
        yield started


@pytest.fixture
def other() -> Iterator[Site]:
    with serving(Site(files={HERE: b"{}"})) as started:
        yield started


def asked(*urls: str, clock: FakeClock | None = None, limit: int = 1000, document_s: float = 120.0) -> FetchedDocument:
    access = ServerAccess(urls, connect_s=5, read_s=5, document_s=document_s)
    return fetch(Fetch(PATH, limit), Http(access), Servers(list(urls), clock or FakeClock(), print, lambda: 0.0))


def test_a_document_comes_with_where_it_came_from_and_what_it_is_called(site: Site) -> None:
    site.special[HERE] = raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 3\r\n\r\n<p>"
    )
    assert asked(site.url) == FetchedDocument(b"<p>", site.url, "text/html")


def test_a_document_below_a_folder_is_found(site: Site) -> None:
    site.files[f"/deep{HERE}"] = b"deep"
    for base in (f"{site.url}/deep", f"{site.url}/deep/"):
        assert asked(base).content == b"deep"


@pytest.mark.parametrize("hide_length", [False, True])
def test_a_longer_document_shows_that_by_one_byte_and_is_not_read_to_its_end(site: Site, *, hide_length: bool) -> None:
    site.files[HERE] = bytes(32 << 20)
    site.hide_length = hide_length
    assert len(asked(site.url, limit=1000).content) == 1001
    assert site.sent_bytes < 16 << 20


def test_a_broken_transfer_is_begun_again(site: Site) -> None:
    site.files[HERE] = bytes(5000)
    site.break_after[HERE] = [100, 4999]
    clock = FakeClock()
    assert len(asked(site.url, clock=clock, limit=9000).content) == 5000
    assert len(site.requests) == TRIES
    assert len(clock.slept) == 2


def test_a_server_that_stays_busy_is_given_up_after_bounded_tries(site: Site) -> None:
    site.status[HERE] = [503] * 100
    with pytest.raises(TransferError, match=r"/metadata/timestamp\.json: the server answers 503 \(after 3 tries\)"):
        asked(site.url)
    assert len(site.requests) == TRIES


def test_a_document_that_is_missing_is_reported_at_once(site: Site) -> None:
    del site.files[HERE]
    clock = FakeClock()
    with pytest.raises(TransferError) as caught:
        asked(site.url, clock=clock)
    assert (caught.value.failure, caught.value.status) == (Failure.MISSING, 404)
    assert len(site.requests) == 1
    assert not clock.slept


def test_another_server_is_asked_without_a_pause(site: Site, other: Site) -> None:
    clock = FakeClock()
    assert asked("http://127.0.0.1:1", other.url, clock=clock).url == other.url
    assert not any(clock.slept)
    # What one server does not have yet, another may.
    del site.files[HERE]
    assert asked(site.url, other.url).url == other.url


def test_a_document_that_no_server_has_is_missing(site: Site, other: Site) -> None:
    del site.files[HERE], other.files[HERE]
    with pytest.raises(TransferError) as caught:
        asked(site.url, other.url)
    assert caught.value.failure is Failure.MISSING
    assert len(site.requests) == len(other.requests) == 1


@pytest.mark.parametrize("pause", [b"30", b"600"])
def test_a_pause_that_a_server_asks_for_is_made_within_the_limit_for_documents(site: Site, pause: bytes) -> None:
    site.special[HERE] = raw(b"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\nRetry-After: " + pause + b"\r\n\r\n")
    clock = FakeClock()
    with pytest.raises(TransferError) as caught:
        asked(site.url, clock=clock, document_s=100.0)
    assert caught.value.retry_after_s == float(pause)
    assert clock.slept == ([30.0, 30.0] if pause == b"30" else [])


def test_a_byte_at_a_time_is_given_up_when_the_time_is_over(site: Site) -> None:
    site.special[HERE] = trickled(site, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x", 0.001)
    with pytest.raises(TransferError, match="when its time was over"):
        asked(site.url, clock=TickingClock(1.0))
    assert len(site.requests) == 1


def test_a_password_is_not_in_the_error(site: Site) -> None:
    site.status[HERE] = [500] * 9
    with pytest.raises(TransferError) as caught:
        asked(site.url.replace("http://", "http://me:hunter2@"))
    assert "hunter2" not in str(caught.value)
    assert HERE in str(caught.value)
