"""Files over http(s) for workstations: bounded in size, time and tries; proxies and certificates by the environment.

Rules: a transfer that breaks goes on where it stopped; `Retry-After` is honoured within bounds; a redirect never leads
from https to http, and credentials in the URL go to its own host alone and are never in an error.
Nothing here trusts the answers: callers bound their length and check their hash.
Sources: RFC 9110, sections 10.2.3 (Retry-After), 14 (ranges) and 15.4 (redirects).
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError
from urllib3.response import BaseHTTPResponse

from bedrock.clock import SYSTEM_CLOCK, Clock
from updater.errors import FetchError, RefusedError

MAX_REDIRECTS = 5
MAX_FRUITLESS_TRIES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 120.0
# A server that keeps sending, but less than this within that time, is given up like a silent one.
PROGRESS_BYTES = 1 << 20
PROGRESS_WITHIN_S = 300.0
_CHUNK_BYTES = 256 << 10
_TIMEOUT = urllib3.Timeout(connect=15.0, read=60.0)
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Stores that list nothing answer 403 for what is not there.
_MISSING = frozenset({403, 404, 410})
_MOST_DIGITS = 10
_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_HEADERS = {"User-Agent": "twinhull", "Accept-Encoding": "identity"}


class MissingFileError(FetchError):
    """The server does not have the file."""


class _BrokenTransferError(Exception):
    """Another try may help, after so many seconds if the server said so."""

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class _StartOverError(_BrokenTransferError):
    """Another try may help, from the first byte on."""


@dataclass
class _Transfer:
    """A file of which some bytes are there."""

    path: str
    most: int
    done: int
    exact: bool


@dataclass
class WebFiles:
    """The files below a URL.

    Attributes:
        base: The URL, with credentials if there are any.
        clock: Measures and waits.
        environment: Names proxies and certificates.
    """

    base: str
    clock: Clock = SYSTEM_CLOCK
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base)
            self._host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise FetchError(f"not a URL that can be fetched from: {error}") from error
        if parts.scheme not in ("http", "https") or not self._host or parts.query or parts.fragment:
            raise FetchError(f"{_shown(parts)} is not an http or https URL without ? and #")
        self._auth = _credentials(parts)
        self._origin = (parts.scheme, self._host, port)
        self.shown = _shown(parts).rstrip("/")
        self._pools: dict[str, urllib3.PoolManager] = {}

    def read(self, path: str, most: int) -> bytes:
        """A small file, of at most `most` bytes.

        Raises:
            MissingFileError: It is not there.
            RefusedError: It is longer.
            FetchError: The server cannot be reached, or gives no usable answer.
        """
        pieces: list[bytes] = []
        self._fetch(_Transfer(path, most, 0, exact=False), pieces.append, pieces.clear)
        return b"".join(pieces)

    def fetch(
        self, path: str, size_bytes: int, done: int, write: Callable[[bytes], object], again: Callable[[], object]
    ) -> None:
        """Pass the bytes of a file from `done` on to `write`, which is exactly `size_bytes` long.

        Args:
            path: The file.
            size_bytes: Its length.
            done: Bytes that the caller has.
            write: Takes the next bytes.
            again: Is called when they come from the first one on after all.

        Raises:
            MissingFileError: It is not there.
            RefusedError: It has another length.
            FetchError: The server cannot be reached, or stops answering.
        """
        self._fetch(_Transfer(path, size_bytes, done, exact=True), write, again)

    def _fetch(self, transfer: _Transfer, write: Callable[[bytes], object], again: Callable[[], object]) -> None:
        fruitless, credited = 0, transfer.done
        while True:
            try:
                return self._one_try(transfer, write, again)
            except _BrokenTransferError as error:
                # A document has no length to go on to.
                if not transfer.exact or isinstance(error, _StartOverError):
                    transfer.done = 0
                    again()
                if transfer.done - credited >= PROGRESS_BYTES:
                    fruitless, credited = 0, transfer.done
                fruitless += 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise FetchError(f"{self.shown}/{transfer.path}: {error}, after {fruitless} tries") from error
                pause = FIRST_PAUSE_S * 2 ** (fruitless - 1) if error.after_s is None else error.after_s
                self.clock.sleep(min(LONGEST_PAUSE_S, max(0.0, pause)))

    def _one_try(self, transfer: _Transfer, write: Callable[[bytes], object], again: Callable[[], object]) -> None:
        if transfer.exact and transfer.done >= transfer.most:
            return
        response = self._answer(transfer)
        try:
            if not self._goes_on(response, transfer):
                transfer.done = 0
                again()
            for chunk in self._chunks(response, transfer):
                write(chunk)
        finally:
            # One that was read to its end is in the pool again; any other may hold unread bytes.
            response.close()

    def _answer(self, transfer: _Transfer) -> BaseHTTPResponse:
        """The answer to a request, after redirects."""
        url = f"{urlunsplit(self._bare())}/{transfer.path}"
        headers = {**_HEADERS, **({"Range": f"bytes={transfer.done}-"} if transfer.done else {})}
        for _ in range(MAX_REDIRECTS + 1):
            parts = urlsplit(url)
            ours = (parts.scheme, parts.hostname, parts.port) == self._origin
            try:
                response = self._pool(parts).request(
                    "GET",
                    url,
                    headers=headers | (self._auth if ours else {}),
                    preload_content=False,
                    decode_content=False,
                    redirect=False,
                    retries=False,
                    timeout=_TIMEOUT,
                )
            except HTTPError as error:
                raise _BrokenTransferError(f"cannot be reached: {_reason(error)}") from error
            if response.status not in _REDIRECTS:
                return response
            url = self._redirected(url, response, transfer)
        raise FetchError(f"{self.shown}/{transfer.path}: more than {MAX_REDIRECTS} redirects")

    def _redirected(self, url: str, response: BaseHTTPResponse, transfer: _Transfer) -> str:
        response.close()
        try:
            target = urljoin(url, response.headers.get("Location", ""))
            scheme, host = urlsplit(target).scheme, urlsplit(target).hostname
        except ValueError:
            scheme, host, target = "", "", ""
        if scheme not in ("http", "https") or not host:
            raise FetchError(f"{self.shown}/{transfer.path}: a redirect leads to no URL")
        if urlsplit(url).scheme == "https" and scheme == "http":
            raise RefusedError(f"{self.shown}/{transfer.path}: a redirect leads from https to http")
        return target

    def _goes_on(self, response: BaseHTTPResponse, transfer: _Transfer) -> bool:
        """Whether the bytes of an answer are those after the ones that are there; False: they begin with the first."""
        place = f"{self.shown}/{transfer.path}"
        if response.status in _MISSING:
            raise MissingFileError(f"{place}: the server answers {response.status}")
        if response.status == _NO_SUCH_RANGE and transfer.done:
            raise _StartOverError("the server knows no such range")
        if response.status in _RETRYABLE:
            raise _BrokenTransferError(f"the server answers {response.status}", after_s=self._retry_after(response))
        if response.status not in (_OK, _PARTIAL):
            raise FetchError(f"{place}: the server answers {response.status}")
        if response.status == _OK:
            return not transfer.done
        told = response.headers.get("Content-Range", "")
        if not transfer.done or told != f"bytes {transfer.done}-{transfer.most - 1}/{transfer.most}":
            raise _StartOverError(f"another range than asked for came: {told[:80]!r}")
        return True

    def _chunks(self, response: BaseHTTPResponse, transfer: _Transfer) -> Iterator[bytes]:
        place = f"{self.shown}/{transfer.path}"
        began, credited = self.clock.steady(), 0
        while True:
            try:
                chunk = response.read1(_CHUNK_BYTES)
            except (HTTPError, ValueError) as error:
                raise _BrokenTransferError(f"the transfer broke: {_reason(error)}") from error
            if not chunk:
                break
            credited += len(chunk)
            if transfer.done + len(chunk) > transfer.most:
                raise RefusedError(f"{place} is longer than the {transfer.most} bytes it may have")
            yield chunk
            transfer.done += len(chunk)
            if credited >= PROGRESS_BYTES:
                began, credited = self.clock.steady(), 0
            elif self.clock.steady() - began > PROGRESS_WITHIN_S:
                raise _BrokenTransferError(f"only {credited} bytes came in {PROGRESS_WITHIN_S:.0f} s")
        if transfer.exact and transfer.done < transfer.most:
            raise _BrokenTransferError(f"the transfer ended {transfer.most - transfer.done} bytes early")

    def _retry_after(self, response: BaseHTTPResponse) -> float | None:
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS:
            return float(text)
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, OverflowError, TypeError):
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return (when - self.clock.now()).total_seconds()

    def _bare(self) -> SplitResult:
        parts = urlsplit(self.base)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/"))

    def _pool(self, parts: SplitResult) -> urllib3.PoolManager:
        proxy = _proxy_for(parts, self.environment)
        if proxy not in self._pools:
            self._pools[proxy] = _new_pool(proxy, self.environment)
        return self._pools[proxy]


def _new_pool(proxy: str, environment: Mapping[str, str]) -> urllib3.PoolManager:
    bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    trust: dict[str, str] = {}
    if bundle:
        trust = {"ca_cert_dir": bundle} if Path(bundle).is_dir() else {"ca_certs": bundle}
    if not proxy:
        return urllib3.PoolManager(**trust)  # type: ignore[arg-type]  # keywords of the connection
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        login = _login(parts)
        headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
        return urllib3.ProxyManager(bare, proxy_headers=headers, **trust)  # type: ignore[arg-type]
    except (ValueError, LocationValueError, HTTPError) as error:
        _refuse_proxy(error)


def _refuse_proxy(error: Exception) -> NoReturn:
    # The variable may hold a password, and so may the error.
    raise FetchError("the proxy that the environment names is not a URL") from error.with_traceback(None)


def _proxy_for(parts: SplitResult, environment: Mapping[str, str]) -> str:
    """The proxy for a URL by `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`; empty for none."""
    names = {name.lower(): value for name, value in sorted(environment.items())}
    proxy = names.get(f"{parts.scheme}_proxy") or names.get("all_proxy") or ""
    no_proxy = {"no": names.get("no_proxy", "")}
    bypassed = urllib.request.proxy_bypass_environment(parts.netloc.rpartition("@")[2], no_proxy)  # type: ignore[attr-defined]
    return "" if bypassed else proxy


def _credentials(parts: SplitResult) -> dict[str, str]:
    login = _login(parts)
    return urllib3.make_headers(basic_auth=login) if login else {}


def _login(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _shown(parts: SplitResult) -> str:
    """A URL as it may be printed."""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
