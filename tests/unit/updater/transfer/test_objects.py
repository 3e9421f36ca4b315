"""Objects: as many bytes as are signed, resumed where they broke off, never more, and never for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.fakes.clock import FakeClock, TickingClock
from tests.fakes.http_server import Site, Special, raw, serving, trickled
from updater.transfer import objects
from updater.transfer.failure import TransferError
from updater.transfer.http import CHUNK_BYTES, Http
from updater.transfer.messages import Failure, FetchObject, ServerAccess
from updater.transfer.objects import MAX_FRUITLESS_TRIES, PROGRESS_WITHIN_S, fetch_object
from updater.transfer.servers import Servers

CONTENT = os.urandom(3 << 20)
PATH = "objects/ab/abcd"
HERE = f"/{PATH}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={HERE: CONTENT})) as started:
        yield started


@pytest.fixture
def other() -> Iterator[Site]:
    with serving(Site(files={HERE: CONTENT})) as started:
        yield started


class Asked:
    """One object asked for."""

    def __init__(self, *urls: str, clock: FakeClock | None = None, bytes_per_s: int | None = None) -> None:
        self.clock = clock or FakeClock()
        self.got = bytearray()
        self.largest = 0
        self.url = ""
        access = ServerAccess(urls, bytes_per_s=bytes_per_s, connect_s=5, read_s=5)
        self._http = Http(access)
        self._servers = Servers(list(urls), self.clock, print, lambda: 0.0)

    def bring(self, start: int = 0, stop: int = len(CONTENT), size_bytes: int = len(CONTENT)) -> bytes:
        wanted = FetchObject(PATH, size_bytes, start, stop)
        self.url = fetch_object(wanted, self._http, self._servers, self._add)
        return bytes(self.got)

    def refused(self, start: int = 0, stop: int = len(CONTENT), size_bytes: int = len(CONTENT)) -> TransferError:
        with pytest.raises(TransferError) as caught:
            self.bring(start, stop, size_bytes)
        return caught.value

    def _add(self, data: bytes) -> None:
        self.got += data
        self.largest = max(self.largest, len(data))


def ranges(site: Site) -> list[str | None]:
    return [wanted for _, wanted in site.requests]


def test_an_object_arrives_whole_and_in_bounded_pieces(site: Site) -> None:
    asked = Asked(site.url)
    assert asked.bring() == CONTENT
    assert asked.largest <= CHUNK_BYTES
    assert asked.url == site.url
    assert ranges(site) == [None]


def test_a_part_is_asked_for_and_no_more_is_sent(site: Site) -> None:
    assert Asked(site.url).bring(0, 1000) == CONTENT[:1000]
    assert Asked(site.url).bring(5, 1000) == CONTENT[5:1000]
    assert Asked(site.url).bring(len(CONTENT) - 7) == CONTENT[-7:]
    assert ranges(site) == ["bytes=0-999", "bytes=5-999", f"bytes={len(CONTENT) - 7}-{len(CONTENT) - 1}"]
    assert site.sent_bytes == 1000 + 995 + 7


def test_a_part_of_a_server_that_knows_no_ranges_is_cut_off(site: Site) -> None:
    site.no_ranges = True
    site.files[HERE] = os.urandom(16 << 20)
    assert Asked(site.url).bring(0, 1000, 16 << 20) == site.files[HERE][:1000]
    # What the sockets between the two hold is all that is sent beyond the first bytes.
    assert site.sent_bytes < 8 << 20


@pytest.mark.parametrize("no_ranges", [False, True])
@pytest.mark.parametrize("hide_length", [False, True])
def test_a_broken_transfer_goes_on_where_it_stopped(site: Site, *, no_ranges: bool, hide_length: bool) -> None:
    site.no_ranges, site.hide_length = no_ranges, hide_length
    site.break_after[HERE] = [1_000_000, 700_000] if not no_ranges else [1_000_000, 1_700_000]
    asked = Asked(site.url)
    assert asked.bring() == CONTENT
    end = len(CONTENT) - 1
    assert ranges(site) == [None, f"bytes=1000000-{end}", f"bytes=1700000-{end}"]
    assert len(asked.clock.slept) == 2


def test_a_server_that_brings_nothing_new_is_given_up_after_bounded_tries(site: Site) -> None:
    site.break_after[HERE] = [1000] * 100
    assert "after 6 tries" in str(Asked(site.url).refused())
    assert len(site.requests) == MAX_FRUITLESS_TRIES


def test_a_server_that_breaks_off_often_but_gets_on_is_not_given_up(site: Site) -> None:
    site.break_after[HERE] = [300_000] * 100
    assert Asked(site.url).bring() == CONTENT


def test_a_busy_server_is_asked_again(site: Site) -> None:
    site.status[HERE] = [503, 429]
    assert Asked(site.url).bring() == CONTENT


def test_a_missing_object_is_reported_at_once(site: Site) -> None:
    del site.files[HERE]
    error = Asked(site.url).refused()
    assert (error.failure, error.status) == (Failure.MISSING, 404)
    assert len(site.requests) == 1


def test_a_server_that_is_not_there_is_reported() -> None:
    assert "127.0.0.1:1/objects/ab/abcd: NewConnectionError" in str(Asked("http://127.0.0.1:1").refused())


@pytest.mark.parametrize("hide_length", [False, True])
def test_a_longer_object_is_refused_and_not_read_to_its_end(site: Site, *, hide_length: bool) -> None:
    site.files[HERE] = CONTENT + bytes(32 << 20)
    site.hide_length = hide_length
    asked = Asked(site.url)
    error = asked.refused()
    assert (error.failure, error.again) == (Failure.WRONG, False)
    assert "signed" in str(error)
    assert len(asked.got) <= len(CONTENT)
    assert site.sent_bytes < 16 << 20


def test_a_part_of_a_longer_object_is_refused_by_its_headers(site: Site) -> None:
    site.files[HERE] = CONTENT + b"x"
    error = Asked(site.url).refused(0, 1000)
    assert (error.failure, f"{len(CONTENT) + 1} bytes instead of {len(CONTENT)}" in str(error)) == (Failure.WRONG, True)


def test_a_shorter_object_is_refused(site: Site) -> None:
    site.files[HERE] = CONTENT[:-1]
    assert Asked(site.url).refused().failure is Failure.WRONG


def test_a_shorter_object_of_unknown_length_ends_too(site: Site) -> None:
    site.files[HERE] = CONTENT[:-1]
    site.hide_length = site.no_ranges = True
    assert "1 bytes early, after" in str(Asked(site.url).refused())
    assert len(site.requests) == MAX_FRUITLESS_TRIES


def part(status: str, headers: str, body: bytes) -> Special:
    """A whole answer for the first request, and this one where a part is asked for."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Range") is None:
            raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode(), CONTENT)(handler)
        else:
            raw(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode(), body)(handler)

    return answer


LAST = len(CONTENT) - 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("206 Partial", f"Content-Range: bytes 999-{LAST}/{len(CONTENT)}\r\n"),
        ("206 Partial", f"Content-Range: bytes 1000-{LAST - 1}/{len(CONTENT)}\r\n"),
        ("206 Partial", f"Content-Range: bytes 0-{LAST}/{len(CONTENT)}\r\n"),
        ("206 Partial", "Content-Range: nonsense\r\n"),
        ("206 Partial", f"Content-Range: {'9' * 60_000}\r\n"),
        ("206 Partial", ""),
        ("416 Range Not Satisfiable", "Content-Range: bytes */5\r\n"),
        ("416 Range Not Satisfiable", ""),
    ],
)
def test_a_wrong_part_is_passed_over_and_all_of_the_object_asked_for(site: Site, status: str, headers: str) -> None:
    site.special[HERE] = part(status, headers, b"x" * 1000)
    assert Asked(site.url).bring(1000) == CONTENT[1000:]
    assert ranges(site) == [f"bytes=1000-{LAST}", None]


def test_a_server_that_never_sends_the_right_part_is_given_up(site: Site) -> None:
    site.special[HERE] = raw(b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nxxxxx")
    asked = Asked(site.url)
    asked.refused(1000)
    assert not asked.got
    assert len(site.requests) <= MAX_FRUITLESS_TRIES


def test_another_server_goes_on_where_the_first_stopped(site: Site, other: Site) -> None:
    site.break_after[HERE] = [1_000_000] * 9
    asked = Asked(site.url, other.url)
    assert asked.bring() == CONTENT
    assert ranges(other) == [f"bytes=1000000-{LAST}"]
    assert asked.url == other.url
    assert not any(asked.clock.slept)


def test_a_server_with_something_else_does_not_end_what_another_has(site: Site, other: Site) -> None:
    site.files[HERE] = CONTENT[:-1]
    assert Asked(site.url, other.url).bring() == CONTENT
    del site.files[HERE]
    assert Asked(site.url, other.url).bring() == CONTENT


def test_when_no_server_has_it_that_is_the_answer(site: Site, other: Site) -> None:
    del site.files[HERE], other.files[HERE]
    assert Asked(site.url, other.url).refused().failure is Failure.MISSING
    assert len(site.requests) == len(other.requests) == 1


def test_a_pause_that_a_server_asks_for_is_made(site: Site) -> None:
    answers = iter([b"120", b"150"])

    def busy(handler: BaseHTTPRequestHandler) -> None:
        if (pause := next(answers, None)) is not None:
            raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: " + pause + b"\r\n\r\n")(handler)
        else:
            raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode(), CONTENT)(handler)

    site.special[HERE] = busy
    asked = Asked(site.url)
    assert asked.bring() == CONTENT
    assert asked.clock.slept == [120.0, 150.0]


@pytest.mark.parametrize(("pause", "made"), [("120", [120.0, 120.0]), ("999999", []), ("nonsense", [0.5, 1, 2, 4, 8])])
def test_a_server_that_keeps_asking_for_pauses_is_left_to_the_next_poll(
    site: Site, pause: str, made: list[float]
) -> None:
    site.special[HERE] = raw(f"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: {pause}\r\n\r\n".encode())
    asked = Asked(site.url)
    asked_for = {"120": 120.0, "999999": 600.0, "nonsense": None}[pause]
    assert asked.refused().retry_after_s == asked_for
    assert asked.clock.slept == made


def test_a_byte_at_a_time_is_given_up(site: Site) -> None:
    header = f"HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
    site.special[HERE] = trickled(site, header, b"x", 0.001)
    asked = Asked(site.url, clock=TickingClock(1.0))
    assert "bytes came in 300 s" in str(asked.refused())
    assert len(asked.got) < 2 * PROGRESS_WITHIN_S


def test_a_transfer_stays_below_the_bandwidth_it_may_use(site: Site) -> None:
    asked = Asked(site.url, bytes_per_s=1 << 20)
    asked.bring()
    assert asked.clock.steady() == pytest.approx(3.0, abs=0.1)


def test_a_narrow_bandwidth_is_not_taken_for_a_slow_server(site: Site) -> None:
    asked = Asked(site.url, bytes_per_s=1 << 10)
    assert asked.bring() == CONTENT
    assert asked.clock.steady() == pytest.approx(3 * 1024.0, rel=0.1)


def test_what_a_slow_line_left_unused_is_not_made_up_for(site: Site) -> None:
    asked = Asked(site.url, clock=TickingClock(0.5), bytes_per_s=1 << 20)
    asked.bring()
    assert sum(asked.clock.slept) == 0


def test_nothing_is_asked_for_when_all_of_it_is_there(site: Site) -> None:
    assert Asked(site.url).bring(len(CONTENT)) == b""
    assert not site.requests


def test_the_limits_fit_each_other() -> None:
    assert objects.PROGRESS_BYTES >= CHUNK_BYTES
