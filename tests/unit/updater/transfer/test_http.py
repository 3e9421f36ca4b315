"""One request, whatever the server does: bounded in time, headers, redirects and bytes, and nothing given away."""

from __future__ import annotations

import base64
import gc
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.certificates import LoopbackTls, loopback_tls
from tests.fakes.forward_proxy import forward_proxy
from tests.fakes.http_server import Site, raw, redirect, serving, silent, trickled
from updater.transfer import http as transfer_http
from updater.transfer.failure import TransferError
from updater.transfer.http import Http, bypasses_proxy, retry_after_s, within
from updater.transfer.messages import Failure, ServerAccess
from updater.transfer.urls import shown

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _no_socket_left() -> Iterator[None]:
    """A time limit is an alarm, which may come after a socket was made and before anything keeps it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"/x": b"content"})) as started:
        yield started


def http(*, read_s: float = 5.0, connect_s: float = 5.0, ca: str = "", proxy: str = "", no_proxy: str = "") -> Http:
    proxies = {"http": proxy, "https": proxy} if proxy else {}
    return Http(ServerAccess((), proxies, no_proxy, ca, connect_s=connect_s, read_s=read_s))


def hasty() -> Http:
    """Time limits that a test can wait for."""
    return http(read_s=0.2, connect_s=0.1)


def content(it: Http, url: str, limit: int = 1 << 20) -> bytes:
    with it.get(url) as response:
        return b"".join(response.chunks(limit))


def refused(it: Http, url: str) -> TransferError:
    with pytest.raises(TransferError) as caught:
        content(it, url)
    return caught.value


def test_content_arrives_and_no_more_than_is_wanted(site: Site) -> None:
    assert content(http(), f"{site.url}/x") == b"content"
    assert content(http(), f"{site.url}/x", 3) == b"con"


def test_a_host_that_has_only_ipv6_is_served() -> None:
    with serving(Site(files={"/x": b"content"}), host="::1") as site:
        assert content(http(), f"{site.url}/x") == b"content"
        assert content(http(), f"{site.url.replace('//', '//me:pw@')}/x") == b"content"
        assert "Authorization" in site.seen_headers[-1]


def test_a_part_is_asked_for_by_its_header(site: Site) -> None:
    with http().get(f"{site.url}/x", ranged="bytes=3-5") as response:
        assert response.partial
        assert response.content_range == "bytes 3-5/7"
        assert b"".join(response.chunks(100)) == b"ten"


@pytest.mark.parametrize(
    ("status", "failure", "again"),
    [
        (404, Failure.MISSING, False),
        (403, Failure.MISSING, False),
        (410, Failure.MISSING, False),
        (503, Failure.UNREACHABLE, True),
        (429, Failure.UNREACHABLE, True),
        (500, Failure.UNREACHABLE, True),
        (400, Failure.UNREACHABLE, False),
        (416, Failure.UNREACHABLE, True),
        (304, Failure.UNREACHABLE, False),
    ],
)
def test_what_a_status_means(site: Site, status: int, failure: Failure, *, again: bool) -> None:
    site.special["/x"] = raw(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
    error = refused(http(), f"{site.url}/x")
    assert (error.status, error.failure, error.again) == (status, failure, again)
    assert str(error) == f"the server answers {status}"


def test_a_redirect_is_followed(site: Site) -> None:
    site.special["/old"] = redirect("/x")
    assert content(http(), f"{site.url}/old") == b"content"


def test_redirects_are_bounded(site: Site) -> None:
    site.special["/old"] = redirect("/old")
    assert "more than 5 redirects" in str(refused(http(), f"{site.url}/old"))
    assert len(site.requests) == transfer_http.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1",
        "http://[bad]/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http:///x",
        "//",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "gopher:",
        "http://127.0.0.1:0/",
        "",
        "\x00",
    ],
)
def test_a_malformed_redirect_is_an_error_in_words(site: Site, location: str) -> None:
    site.special["/x"] = redirect(location)
    refused(hasty(), f"{site.url}/x")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> LoopbackTls:
    return loopback_tls(tmp_path_factory.mktemp("tls"))


def test_a_redirect_from_https_to_http_is_refused(site: Site, tls: LoopbackTls) -> None:
    with serving(Site(), tls=tls.server) as secure:
        secure.special["/x"] = redirect(f"{site.url}/x")
        error = refused(http(ca=tls.ca), f"{secure.url}/x")
        assert secure.requests
    assert "redirects from https to http" in str(error)
    assert not error.again
    assert not site.requests


def test_a_redirect_from_http_to_https_is_followed(site: Site, tls: LoopbackTls) -> None:
    with serving(Site(files={"/x": b"safe"}), tls=tls.server) as secure:
        site.special["/x"] = redirect(f"{secure.url}/x")
        assert content(http(ca=tls.ca), f"{site.url}/x") == b"safe"


def test_a_server_that_nobody_vouches_for_is_refused_and_additional_certificates_are_read(tls: LoopbackTls) -> None:
    with serving(Site(files={"/x": b"safe"}), tls=tls.server) as secure:
        assert "CERTIFICATE_VERIFY_FAILED" in str(refused(http(), f"{secure.url}/x"))
        assert content(http(ca=tls.ca), f"{secure.url}/x") == b"safe"
    assert "cannot be read" in str(refused(http(ca="no certificate"), "https://127.0.0.1/x"))


@pytest.mark.parametrize("digits", [5_000, 19])
def test_a_length_of_very_many_digits_is_no_length(site: Site, digits: int) -> None:
    site.special["/x"] = raw(OK + b"Content-Length: " + b"9" * digits + b"\r\n\r\ncontent")
    it = hasty()
    try:
        with it.get(f"{site.url}/x") as response:
            assert response.length is None
            assert b"".join(response.chunks(100)) == b"content"
    except TransferError as error:
        assert "broke" in str(error)  # noqa: PT017 - either is an answer, a traceback is not


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n",
        OK + b"x" * 100_000 + b"\r\n\r\n",
        OK + b"".join(b"X-%d: 1\r\n" % n for n in range(1000)) + b"\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\ncontent",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\ncontent",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\ncontent",
        OK + b"Content-Length: 100\r\n\r\ncontent",
    ],
)
def test_what_is_no_http_is_an_error_in_words(site: Site, answer: bytes) -> None:
    site.special["/x"] = raw(answer)
    assert len(str(refused(hasty(), f"{site.url}/x"))) < 500


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "x" * 5000])
def test_an_encoding_that_was_not_asked_for_is_refused(site: Site, coding: str) -> None:
    site.special["/x"] = raw(OK + f"Content-Encoding: {coding}\r\nContent-Length: 0\r\n\r\n".encode())
    error = refused(http(), f"{site.url}/x")
    assert "not asked for" in str(error)
    assert not error.again


def bounded(site: Site) -> float:
    """How long it takes to give this answer up, with an answer's time of 0.3 s and a part's of 0.2 s."""
    began = time.monotonic()
    refused(hasty(), f"{site.url}/x")
    return time.monotonic() - began


def test_header_bytes_one_at_a_time_are_given_up(site: Site) -> None:
    site.special["/x"] = trickled(site, OK, b"X")
    assert bounded(site) < 2.0


def test_a_status_line_one_byte_at_a_time_is_given_up(site: Site) -> None:
    site.special["/x"] = trickled(site, b"HTTP/1.1 200 ", b"O")
    assert bounded(site) < 2.0


def test_endless_continuations_are_given_up(site: Site) -> None:
    site.special["/x"] = trickled(site, b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)
    assert bounded(site) < 2.0


def test_endless_trailers_are_given_up(site: Site) -> None:
    site.special["/x"] = trickled(site, OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-More: 1\r\n", 0.001)
    began = time.monotonic()
    with suppress(TransferError):
        content(hasty(), f"{site.url}/x")
    assert time.monotonic() - began < 2.0


def test_endless_chunk_extensions_are_given_up(site: Site) -> None:
    site.special["/x"] = trickled(site, OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x")
    assert bounded(site) < 2.0


@pytest.mark.parametrize("first", [b"", OK, OK + b"Content-Length: 9\r\n\r\n", OK + b"Content-Length: 9\r\n\r\nx"])
def test_a_server_that_falls_silent_is_given_up(site: Site, first: bytes) -> None:
    site.special["/x"] = silent(site, first)
    assert bounded(site) < 2.0


def test_a_server_that_takes_no_connection_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(("127.0.0.1", port))
        began = time.monotonic()
        refused(hasty(), f"http://127.0.0.1:{port}/x")
        assert time.monotonic() - began < 2.0
        for each in waiting:
            each.close()


def test_a_block_that_takes_too_long_ends_and_one_in_time_leaves_no_alarm() -> None:
    with pytest.raises(TransferError, match=r"the thing was not complete after 0\.05 s"), within(0.05, "the thing"):
        time.sleep(5)
    with within(0.05, "the thing"):
        pass
    time.sleep(0.1)


def test_an_alarm_that_was_swallowed_comes_again() -> None:
    def deaf() -> None:
        while True:
            try:
                time.sleep(5)
            except Exception:  # noqa: BLE001 - a library that swallows everything, once
                break
        time.sleep(5)

    with pytest.raises(TransferError), within(0.05, "the thing"):
        deaf()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("999999", 600.0),
        ("9" * 5000, 600.0),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("١٢", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 600.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Mon, 99 Foo 2026 25:61:61 GMT", None),
        ("\x00", None),
    ],
)
def test_a_pause_that_is_asked_for_is_bounded(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text) == seconds


def test_a_pause_until_a_moment_is_counted_from_now() -> None:
    moment = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 90))
    found = retry_after_s(moment)
    assert found is not None
    assert 80 <= found <= 91


def authorizations(site: Site) -> list[str | None]:
    return [headers.get("Authorization") for headers in site.seen_headers]


def with_password(url: str) -> str:
    return url.replace("http://", "http://me:s%40cret@")


def test_a_password_in_a_url_is_sent_to_its_own_host_only(site: Site) -> None:
    secret = f"Basic {base64.b64encode(b'me:s@cret').decode()}"
    with serving(Site(files={"/x": b"other"})) as other:
        site.special["/far"] = redirect(f"{other.url}/x")
        site.special["/near"] = redirect("/x")
        it = http()
        assert content(it, f"{with_password(site.url)}/near") == b"content"
        assert content(it, f"{with_password(site.url)}/far") == b"other"
        # A redirect that brings a password of its own is not believed either.
        site.special["/own"] = redirect(f"{with_password(other.url)}/x")
        assert content(it, f"{site.url}/own") == b"other"
        assert authorizations(site) == [secret, secret, secret, None]
        assert authorizations(other) == [None, None]


@pytest.mark.parametrize("status", [404, 503])
def test_a_password_is_never_printed(site: Site, status: int) -> None:
    site.status["/x"] = [status]
    gone = "http://me:s%40cret@127.0.0.1:1/x"
    for url in (f"{with_password(site.url)}/x", gone, "http://me:s%40cret@[::1/x", "ftp://me:s%40cret@host/"):
        told = str(refused(hasty(), url))
        assert "cret" not in told
        assert "me:" not in told
        assert "cret" not in shown(url)


def test_a_proxy_with_credentials_is_used(site: Site, tls: LoopbackTls) -> None:
    secret = f"Basic {base64.b64encode(b'me:pw').decode()}"
    with forward_proxy() as proxy, serving(Site(files={"/x": b"safe"}), tls=tls.server) as secure:
        it = http(ca=tls.ca, proxy=proxy.url.replace("http://", "http://me:pw@"))
        assert content(it, f"{site.url}/x") == b"content"
        assert content(it, f"{secure.url}/x") == b"safe"
        assert proxy.asked == [f"GET {site.url}/x", f"CONNECT {secure.url.removeprefix('https://')}"]
        assert proxy.secrets == [secret, secret]
        # The server is not given what the proxy is, through a tunnel least of all.
        assert "Proxy-Authorization" not in secure.seen_headers[0]


def test_a_proxy_without_a_scheme_is_understood(site: Site) -> None:
    with forward_proxy() as proxy:
        assert content(http(proxy=proxy.url.removeprefix("http://")), f"{site.url}/x") == b"content"
        assert len(proxy.asked) == 1


def test_a_host_that_needs_no_proxy_is_asked_directly(site: Site) -> None:
    it = http(proxy="http://127.0.0.1:1", no_proxy="localhost,127.0.0.1")
    assert content(it, f"{site.url}/x") == b"content"


def test_a_proxy_that_is_not_there_is_named_without_its_password(site: Site) -> None:
    told = str(refused(http(proxy="http://me:pwd7@127.0.0.1:1"), f"{site.url}/x"))
    assert "127.0.0.1" in told
    assert "pwd7" not in told


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        ("a.example.com", "example.com", True),
        ("a.example.com", ".example.com", True),
        ("a.example.com", "*.example.com", True),
        ("a.example.com", "*", True),
        ("a.example.com", "other.com, A.Example.COM", True),
        ("a.example.com", "example.com:8080", True),
        ("notexample.com", "example.com", False),
        ("a.example.com", "", False),
        ("a.example.com", ",,", False),
        ("[::1]", "::1", True),
        ("[::1]", "[::1]", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_hosts_that_need_no_proxy_are_named_as_usual(host: str, no_proxy: str, *, bypassed: bool) -> None:
    assert bypasses_proxy(transfer_http._split(f"http://{host}/x"), no_proxy) is bypassed


def test_certificates_of_the_machine_stay_trusted_with_additional_ones(tls: LoopbackTls, tmp_path: Path) -> None:
    usual = len(transfer_http._tls("").get_ca_certs())
    assert len(transfer_http._tls(tls.ca).get_ca_certs()) == usual + 1
