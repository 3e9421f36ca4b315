"""Files over http: bounded, resumed, and with credentials that nobody sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.fakes.clock import START, FakeClock
from tests.fakes.web_server import Answering, WebAnswer, answering, web_server
from updater.errors import FetchError, RefusedError
from updater.repository.mirror.web import (
    LONGEST_PAUSE_S,
    MAX_FRUITLESS_TRIES,
    PROGRESS_WITHIN_S,
    MissingFileError,
    WebFiles,
)

CONTENT = bytes(range(256)) * 20


@dataclass
class Taken:
    """What a caller gathers."""

    data: bytes = b""
    restarts: int = field(default=0)

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def again(self) -> None:
        self.data = b""
        self.restarts += 1


def files(url: str, clock: FakeClock | None = None, **environment: str) -> WebFiles:
    return WebFiles(url, clock=clock or FakeClock(), environment=environment)


def first_then(*answers: WebAnswer, then: Answering) -> Answering:
    left = list(answers)
    return lambda path, headers: left.pop(0) if left else then(path, headers)


def test_a_file_is_read_whole_and_a_missing_one_is_told_apart() -> None:
    with web_server(answering({"/base/a": CONTENT})) as server:
        source = files(f"{server.url}/base/")
        assert source.read("a", len(CONTENT)) == CONTENT
        with pytest.raises(MissingFileError, match="answers 404"):
            source.read("b", 1)


@pytest.mark.parametrize("length", [None, 1 << 40])
def test_a_file_that_is_longer_than_it_may_be_is_refused(length: int | None) -> None:
    with (
        web_server(lambda *_: WebAnswer(body=CONTENT, length=length)) as server,
        pytest.raises(RefusedError, match="longer"),
    ):
        files(server.url).read("a", len(CONTENT) - 1)


def test_a_transfer_that_breaks_goes_on_where_it_stopped() -> None:
    answer = first_then(WebAnswer(body=CONTENT, cut=1000), then=answering({"/a": CONTENT}))
    taken = Taken()
    with web_server(answer) as server:
        files(server.url).fetch("a", len(CONTENT), 0, taken.write, taken.again)
        assert [headers.get("range") for _, headers in server.asked] == [None, "bytes=1000-"]
    assert (taken.data, taken.restarts) == (CONTENT, 0)


@pytest.mark.parametrize(
    "answer",
    [
        WebAnswer(206, CONTENT[5:], {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}),
        WebAnswer(206, CONTENT[1000:]),
        WebAnswer(206, CONTENT[1000:], {"Content-Range": "bytes nonsense"}),
        WebAnswer(416),
        WebAnswer(200, CONTENT),
    ],
)
def test_a_range_that_is_not_the_one_asked_for_starts_from_the_first_byte(answer: WebAnswer) -> None:
    taken = Taken(CONTENT[:1000])
    with web_server(first_then(answer, then=answering({"/a": CONTENT}))) as server:
        files(server.url).fetch("a", len(CONTENT), 1000, taken.write, taken.again)
    assert (taken.data, taken.restarts) == (CONTENT, 1)


def test_a_document_that_breaks_is_read_again_from_its_first_byte() -> None:
    with web_server(first_then(WebAnswer(body=CONTENT, cut=10), then=answering({"/a": CONTENT}))) as server:
        assert files(server.url).read("a", len(CONTENT)) == CONTENT


def test_a_server_that_never_answers_well_is_given_up() -> None:
    clock = FakeClock()
    with web_server(lambda *_: WebAnswer(503)) as server:
        with pytest.raises(FetchError, match=f"answers 503, after {MAX_FRUITLESS_TRIES} tries"):
            files(server.url, clock).read("a", 10)
        assert len(server.asked) == MAX_FRUITLESS_TRIES
    assert clock.slept == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("said", "slept"),
    [
        ("7", 7.0),
        ("99999999", LONGEST_PAUSE_S),
        ("Sun, 01 Mar 2126 12:00:30 GMT", LONGEST_PAUSE_S),
        ("Sun, 01 Mar 2020 12:00:30 GMT", 0.0),
        ("9" * 5000, LONGEST_PAUSE_S),
        ("soon", 1.0),
    ],
)
def test_retry_after_is_honoured_within_bounds(said: str, slept: float) -> None:
    clock = FakeClock(START)
    answer = first_then(WebAnswer(429, headers={"Retry-After": said}), then=answering({"/a": b"x"}))
    with web_server(answer) as server:
        assert files(server.url, clock).read("a", 10) == b"x"
    assert clock.slept == [slept]


def test_credentials_go_to_their_own_host_alone_and_are_in_no_error() -> None:
    with web_server(answering({"/a": b"x"})) as other:

        def redirect(path: str, headers: Mapping[str, str]) -> WebAnswer:
            return WebAnswer(302, headers={"Location": f"{other.url}{path}"})

        with web_server(redirect) as server:
            source = files(server.url.replace("//", "//user:p%40ss@"))
            assert source.read("a", 10) == b"x"
            assert server.asked[0][1]["authorization"] == "Basic dXNlcjpwQHNz"
            assert "authorization" not in other.asked[0][1]
            with pytest.raises(MissingFileError) as caught:
                source.read("gone", 10)
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)
    assert source.shown == server.url


@pytest.mark.parametrize("place", ["http://[::1", "ftp://example.com/a", "", "http:///a"])
def test_a_redirect_that_leads_nowhere_is_an_error(place: str) -> None:
    with (
        web_server(lambda *_: WebAnswer(302, headers={"Location": place} if place else {})) as server,
        pytest.raises(FetchError, match=r"URL|redirect"),
    ):
        files(server.url).read("a", 10)


def test_redirects_are_bounded() -> None:
    with web_server(lambda path, _: WebAnswer(302, headers={"Location": path})) as server:
        with pytest.raises(FetchError, match="more than 5 redirects"):
            files(server.url).read("a", 10)
        assert len(server.asked) == 6


def test_a_proxy_of_the_environment_is_asked_with_its_credentials() -> None:
    with web_server(lambda *_: WebAnswer(body=b"x")) as proxy:
        source = files("http://updates.invalid/repo", http_proxy=proxy.url.replace("//", "//me:secret@"))
        assert source.read("a", 10) == b"x"
        ((path, headers),) = proxy.asked
    assert path == "http://updates.invalid/repo/a"
    assert headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"


def test_a_host_in_no_proxy_is_asked_directly() -> None:
    with web_server(answering({"/a": b"x"})) as server:
        source = files(server.url, http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")
        assert source.read("a", 10) == b"x"


def test_a_proxy_that_is_no_url_is_told_without_its_password() -> None:
    with pytest.raises(FetchError, match="not an http or https URL") as caught:
        files("http://updates.invalid", http_proxy="socks9://me:secret@x").read("a", 10)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "http://", "http://host/a?b", "http://u:secret@[::1/x", "http://host:port/"]
)
def test_what_cannot_be_fetched_from_is_told(url: str) -> None:
    with pytest.raises(FetchError, match="URL") as caught:
        files(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_sends_almost_nothing_is_given_up() -> None:
    with web_server(answering({"/a": CONTENT})) as server:
        slow = files(server.url, Creeping())
        with pytest.raises(FetchError, match=r"bytes came in 300 s, after 5 tries"):
            slow.fetch("a", len(CONTENT) + 1, 0, lambda _: None, lambda: None)


class Creeping(FakeClock):
    """A clock that goes on by minutes whenever somebody looks."""

    def steady(self) -> float:
        self.sleep(PROGRESS_WITHIN_S + 1)
        return super().steady()


def test_certificates_that_cannot_be_read_are_told() -> None:
    with pytest.raises(FetchError, match=r"certificates .* cannot be read: /nowhere"):
        files("https://updates.invalid", REQUESTS_CA_BUNDLE="/nowhere")
