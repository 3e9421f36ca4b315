"""Files over http(s) for workstations: what breaks goes on where it stopped, within bounds of time and tries.

One request, its redirects, credentials and proxy are those of the agent's gate (`updater.transfer.http`); here are the
tries, and what the environment says of proxies and certificates.
Nothing here trusts the answers: callers bound their length and check their hash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bedrock.clock import SYSTEM_CLOCK, Clock
from updater.errors import FetchError, RefusedError
from updater.transfer.failure import TransferError
from updater.transfer.http import RANGE_REFUSED, Http, Response
from updater.transfer.messages import Failure, ServerAccess
from updater.transfer.urls import joined, shown

MAX_FRUITLESS_TRIES = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 120.0
# A server that keeps sending, but less than this within that time, is given up like a silent one.
PROGRESS_BYTES = 1 << 20
PROGRESS_WITHIN_S = 300.0
_READ_S = 60.0

Write = Callable[[bytes], object]
Again = Callable[[], object]


class MissingFileError(FetchError):
    """The server does not have the file."""


class _StartOverError(TransferError):
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
        self.shown = shown(self.base).rstrip("/")
        try:
            parts = urlsplit(self.base)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError as error:
            raise FetchError(f"{self.shown} is not a URL that can be fetched from") from error
        if not usable or parts.query or parts.fragment:
            raise FetchError(f"{self.shown} is not an http or https URL without ? and #")
        self._http = Http(_access(self.base, self.environment))

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

    def fetch(self, path: str, size_bytes: int, done: int, write: Write, again: Again) -> None:
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

    def _fetch(self, transfer: _Transfer, write: Write, again: Again) -> None:
        place = f"{self.shown}/{transfer.path}"
        fruitless, credited = 0, transfer.done
        while True:
            try:
                return self._one_try(transfer, write, again)
            except TransferError as error:
                if error.failure is Failure.MISSING:
                    raise MissingFileError(f"{place}: {error}") from error
                if not error.again:
                    raise FetchError(f"{place}: {error}") from error
                # A document has no length to go on to.
                if not transfer.exact or isinstance(error, _StartOverError) or error.status == RANGE_REFUSED:
                    transfer.done = credited = 0
                    again()
                if transfer.done - credited >= PROGRESS_BYTES:
                    fruitless, credited = 0, transfer.done
                fruitless += 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise FetchError(f"{place}: {error}, after {fruitless} tries") from error
                pause = FIRST_PAUSE_S * 2 ** (fruitless - 1) if error.retry_after_s is None else error.retry_after_s
                self.clock.sleep(min(LONGEST_PAUSE_S, max(0.0, pause)))

    def _one_try(self, transfer: _Transfer, write: Write, again: Again) -> None:
        if transfer.exact and transfer.done >= transfer.most:
            return
        ranged = f"bytes={transfer.done}-" if transfer.done else ""
        with self._http.get(joined(self.base, transfer.path), ranged=ranged) as response:
            if not _goes_on(response, transfer):
                transfer.done = 0
                again()
            self._pass_on(response, transfer, write)
        if transfer.exact and transfer.done < transfer.most:
            raise TransferError(f"the transfer ended {transfer.most - transfer.done} bytes early")

    def _pass_on(self, response: Response, transfer: _Transfer, write: Write) -> None:
        began, credited = self.clock.steady(), 0
        for chunk in response.chunks(transfer.most + 1 - transfer.done):
            if transfer.done + len(chunk) > transfer.most:
                place = f"{self.shown}/{transfer.path}"
                raise RefusedError(f"{place} is longer than the {transfer.most} bytes it may have")
            write(chunk)
            transfer.done += len(chunk)
            credited += len(chunk)
            if credited >= PROGRESS_BYTES:
                began, credited = self.clock.steady(), 0
            elif self.clock.steady() - began > PROGRESS_WITHIN_S:
                raise TransferError(f"only {credited} bytes came in {PROGRESS_WITHIN_S:.0f} s")
        if not transfer.exact and response.length is not None and transfer.done < response.length:
            raise TransferError(f"the transfer ended {response.length - transfer.done} bytes early")


def _goes_on(response: Response, transfer: _Transfer) -> bool:
    """Whether the bytes of an answer are those after the ones that are there; False: they begin with the first."""
    if not response.partial:
        return not transfer.done
    wanted = f"bytes {transfer.done}-{transfer.most - 1}/{transfer.most}"
    if not transfer.done or response.content_range != wanted:
        raise _StartOverError(f"another range than asked for came: {response.content_range!r}")
    return True


def _access(base: str, environment: Mapping[str, str]) -> ServerAccess:
    """How a server is reached, by what the environment names."""
    names = {name.lower(): value for name, value in sorted(environment.items()) if value}
    proxies = {scheme: names.get(f"{scheme}_proxy") or names.get("all_proxy", "") for scheme in ("http", "https")}
    bundle = names.get("requests_ca_bundle") or names.get("curl_ca_bundle")
    return ServerAccess(
        urls=(base,),
        proxies={scheme: proxy for scheme, proxy in proxies.items() if proxy},
        no_proxy=names.get("no_proxy", ""),
        ca=_certificates(Path(bundle)) if bundle else "",
        read_s=_READ_S,
    )


def _certificates(bundle: Path) -> str:
    files = sorted(bundle.glob("*.pem")) if bundle.is_dir() else [bundle]
    try:
        return "\n".join(file.read_text() for file in files)
    except (OSError, UnicodeDecodeError) as error:
        raise FetchError(f"the certificates that the environment names cannot be read: {bundle}: {error}") from error
