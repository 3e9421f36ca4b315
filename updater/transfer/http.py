"""One request over HTTP, bounded in every direction: time, headers, redirects, bytes.

Rules: nothing of an answer is trusted; whatever goes wrong is a `TransferError` with a reason in words; a redirect
never leads from https to http; a password in a URL is sent to its own host only and is never printed.
The library bounds each wait on the socket; `within` bounds their sum, however slowly a server sends its headers,
trailers or continuations.
"""

from __future__ import annotations

import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util import make_headers

from updater.transfer.failure import TransferError
from updater.transfer.messages import LONGEST_RETRY_AFTER_S, Failure, ServerAccess
from updater.transfer.urls import shown

USER_AGENT = "twinhull-updater"
MAX_REDIRECTS = 5
CHUNK_BYTES = 64 << 10
MAX_LENGTH_DIGITS = 18
OK, PARTIAL, RANGE_REFUSED = 200, 206, 416
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 421, 425, 429, 500, 502, 503, 504})
_MISSING = frozenset({403, 404, 410})


class _TooSlowError(Exception):
    """The time of `within` is over."""


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Bound the time of a block, in the main thread.

    Raises:
        TransferError: It took longer.
    """
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        try:
            # Again each second: the first may come where Python swallows exceptions.
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 1.0)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    except _TooSlowError as error:
        raise TransferError(f"{what} was not complete after {seconds:g} s") from error


def _too_slow(_number: int, _frame: object) -> NoReturn:
    raise _TooSlowError


Bounded = Callable[[float, str], AbstractContextManager[None]]


@dataclass
class Http:
    """Requests to the servers of one `ServerAccess`; connections are kept for the next request.

    `bounded` bounds the time of each step.
    """

    access: ServerAccess
    bounded: Bounded = within
    _pools: dict[str, urllib3.PoolManager] = field(default_factory=dict)

    @contextmanager
    def get(self, url: str, *, ranged: str = "") -> Iterator[Response]:
        """Ask for a URL, follow its redirects, and hand out an answer with status 200 or 206.

        Args:
            url: Where; it may carry user and password.
            ranged: A value for the header `Range`.

        Raises:
            TransferError: There is no such answer.
        """
        first = _split(url)
        here = first
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._ask(here, ranged, with_password=_origin(here) == _origin(first))
            try:
                if answer.status not in _REDIRECTS:
                    _require_content(answer)
                    yield Response(answer, self.access.read_s, self.bounded)
                    return
                here = _redirected(here, answer.headers.get("Location"))
            finally:
                # Closed, not given back: it may hold bytes that nobody read.
                answer.close()
        raise TransferError(f"more than {MAX_REDIRECTS} redirects", again=False)

    def _ask(self, url: SplitResult, ranged: str, *, with_password: bool) -> BaseHTTPResponse:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **({"Range": ranged} if ranged else {})}
        if with_password and url.username is not None:
            secret = f"{unquote(url.username)}:{unquote(url.password or '')}"
            headers.update(make_headers(basic_auth=secret))
        limit = self.access.connect_s + self.access.read_s
        try:
            with self.bounded(limit, "the answer"):
                return self._pool(url).request(
                    "GET",
                    urlunsplit(url._replace(netloc=_host(url))),
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
        except TransferError:
            self._forget()
            raise
        except (HTTPError, OSError, ValueError, TypeError) as error:
            raise TransferError(_words(error)) from error

    def _pool(self, url: SplitResult) -> urllib3.PoolManager:
        proxy = self._proxy_of(url)
        if proxy not in self._pools:
            self._pools[proxy] = self._opened(proxy)
        return self._pools[proxy]

    def _opened(self, proxy: str) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=self.access.connect_s, read=self.access.read_s)
        tls = _tls(self.access.ca)
        if not proxy:
            return urllib3.PoolManager(num_pools=4, maxsize=1, timeout=timeout, ssl_context=tls)
        parts = _split(proxy if "://" in proxy else f"http://{proxy}")
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else None
        return urllib3.ProxyManager(
            urlunsplit(parts._replace(netloc=_host(parts))),
            num_pools=4,
            maxsize=1,
            timeout=timeout,
            ssl_context=tls,
            proxy_ssl_context=_tls(self.access.ca),
            proxy_headers=make_headers(proxy_basic_auth=secret) if secret else None,
        )

    def _proxy_of(self, url: SplitResult) -> str:
        proxies = self.access.proxies
        if bypasses_proxy(url, self.access.no_proxy):
            return ""
        return proxies.get(url.scheme, "")

    def _forget(self) -> None:
        """Drop all connections: one that was interrupted is in no known state."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()


@dataclass(frozen=True)
class Response:
    """An answer with content."""

    answer: BaseHTTPResponse
    read_s: float
    bounded: Bounded

    @property
    def partial(self) -> bool:
        """Whether it is the part that was asked for."""
        return self.answer.status == PARTIAL

    @property
    def length(self) -> int | None:
        """How many bytes it says it has; None when it does not say, or says nonsense."""
        text = self.answer.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS else None

    @property
    def content_range(self) -> str:
        """Which part it says it is."""
        return self.answer.headers.get("Content-Range", "")[:100]

    @property
    def content_type(self) -> str:
        """What it says its content is."""
        return self.answer.headers.get("Content-Type", "").partition(";")[0].strip()[:100]

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The bytes, at most `limit` of them.

        Raises:
            TransferError: The connection broke or fell silent.
        """
        while limit > 0:
            try:
                with self.bounded(self.read_s, "the next part"):
                    # `read1` returns what is there; `read` would wait for a whole chunk.
                    chunk = self.answer.read1(min(CHUNK_BYTES, limit))
            except (HTTPError, OSError, ValueError) as error:
                raise TransferError(f"the transfer broke: {_words(error)}") from error
            if not chunk:
                return
            limit -= len(chunk)
            yield chunk


def bypasses_proxy(url: SplitResult, no_proxy: str) -> bool:
    """Whether a list as in `NO_PROXY` names the host: `*`, a host, or a domain with or without a leading dot or `*`."""
    host = (url.hostname or "").lower()
    names = (name.strip().lower().removeprefix("*").lstrip(".") for name in no_proxy.split(","))
    listed = [name.rpartition(":")[0] or name if name.count(":") == 1 else name.strip("[]") for name in names if name]
    return no_proxy.strip() == "*" or any(host == name or host.endswith(f".{name}") for name in listed)


def retry_after_s(text: str | None) -> float | None:
    """The pause that a header `Retry-After` asks for (RFC 9110, 10.2.3), bounded; None when it cannot be read."""
    if not text:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(min(int(text.strip()[:MAX_LENGTH_DIGITS]), LONGEST_RETRY_AFTER_S))
    try:
        seconds = urllib3.Retry().parse_retry_after(text)
    except (InvalidHeader, ValueError, OverflowError, TypeError):
        return None
    return min(seconds, LONGEST_RETRY_AFTER_S)


def _require_content(answer: BaseHTTPResponse) -> None:
    if answer.status in (OK, PARTIAL):
        if (coding := answer.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
            raise TransferError(f"the server sends it encoded as {coding[:40]!r}, which was not asked for", again=False)
        return
    reason = f"the server answers {answer.status}"
    if answer.status in _RETRYABLE:
        pause = retry_after_s(answer.headers.get("Retry-After"))
        raise TransferError(reason, status=answer.status, retry_after_s=pause)
    failure = Failure.MISSING if answer.status in _MISSING else Failure.UNREACHABLE
    # Another range may be answered after 416.
    raise TransferError(reason, failure=failure, status=answer.status, again=answer.status == RANGE_REFUSED)


def _redirected(here: SplitResult, location: str | None) -> SplitResult:
    if not location:
        raise TransferError("the server redirects to nowhere", again=False)
    try:
        there = _split(urljoin(urlunsplit(here), location))
    except ValueError as error:
        raise TransferError("the server redirects to what is not a URL", again=False) from error
    if here.scheme == "https" and there.scheme != "https":
        raise TransferError(f"the server redirects from https to {there.scheme}, which is refused", again=False)
    return there


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise TransferError("what is to be asked is not a URL", again=False) from error
    if not usable:
        raise TransferError(f"{shown(url)[:200]!r} is not an http or https URL", again=False)
    return parts


def _host(parts: SplitResult) -> str:
    """Host and port as they are written in a URL, without user and password."""
    return parts.netloc.rpartition("@")[2]


def _origin(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme, _host(parts).lower()


def _tls(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError) as error:
            raise TransferError(f"the additional certificates cannot be read: {error}", again=False) from error
    return context


def _words(error: Exception) -> str:
    """What happened, in one bounded line; the library's text names host, port and path only."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
