"""Fetches a part of an object: as many bytes as are signed, resumed where it broke off, never more.

The bytes are passed on as they come; nothing here knows their hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bedrock.clock import Clock
from updater.transfer.failure import TransferError
from updater.transfer.http import RANGE_REFUSED, Http, Response
from updater.transfer.messages import Failure, FetchObject
from updater.transfer.servers import Servers
from updater.transfer.urls import joined, shown

# Whoever sends less than this in that time is given up, whether it sends slowly, breaks off or does not answer; and
# who asks for longer pauses than this in between.
PROGRESS_BYTES = 1 << 20
PROGRESS_WITHIN_S = 300.0
MAX_FRUITLESS_TRIES = 6

Pass = Callable[[bytes], None]


@dataclass
class _Standing:
    """How far a transfer is, and how long ago it last got on; pauses do not count, but have a limit of their own."""

    done: int
    credited: int
    since: float
    fruitless: int = 0
    paused_s: float = 0.0

    def came(self, amount: int, now: float) -> None:
        self.done += amount
        if self.done - self.credited >= PROGRESS_BYTES:
            self.credited, self.since, self.fruitless, self.paused_s = self.done, now, 0, 0.0

    def require_progress(self, now: float) -> None:
        if now - self.since > PROGRESS_WITHIN_S:
            raise TransferError(f"less than {PROGRESS_BYTES} bytes came in {PROGRESS_WITHIN_S:.0f} s")


@dataclass
class _Pace:
    """Keeps a transfer below a number of bytes per second; a pause for more than a second of debt is never made."""

    clock: Clock
    bytes_per_s: int | None
    began: float
    sent: int = 0

    def spend(self, amount: int) -> float:
        """Wait until these bytes are allowed; returns for how many seconds."""
        if self.bytes_per_s is None:
            return 0.0
        self.sent += amount
        ahead = self.sent / self.bytes_per_s - (self.clock.steady() - self.began)
        if ahead > 0:
            self.clock.sleep(ahead)
        elif ahead < -1:
            # What was not used while the line was slow is not made up for.
            self.began, self.sent = self.clock.steady(), 0
        return max(0.0, ahead)


def fetch_object(wanted: FetchObject, http: Http, servers: Servers, pass_on: Pass) -> str:
    """Pass on the bytes of an object from `start` to `stop`; returns the server that sent the last of them.

    Raises:
        TransferError: It is missing, not as long as signed, or does not come.
    """
    clock = servers.clock
    at = _Standing(wanted.start, wanted.start, clock.steady())
    pace = _Pace(clock, http.access.bytes_per_s, clock.steady())
    without_range: set[str] = set()
    refused: dict[str, TransferError] = {}
    while at.done < wanted.stop:
        url = servers.first
        try:
            for chunk in _one_try(wanted, http, url, at.done, ranged=url not in without_range):
                at.since += pace.spend(len(chunk))
                pass_on(chunk)
                at.came(len(chunk), clock.steady())
                at.require_progress(clock.steady())
        except _WrongRangeError as error:
            if url in without_range:
                refused[url] = error
            without_range.add(url)
            _go_on(servers, at, error, refused, wanted)
        except TransferError as error:
            if not error.again:
                refused[url] = error
            _go_on(servers, at, error, refused, wanted)
    return servers.first


def _go_on(
    servers: Servers, at: _Standing, error: TransferError, refused: dict[str, TransferError], wanted: FetchObject
) -> None:
    """Wait before the next try, or give up."""
    url = servers.first
    at.fruitless += 1
    pause = servers.failed(error, at.fruitless)
    silent_s = servers.clock.steady() - at.since
    if len(refused) == len(servers.urls) or at.fruitless >= MAX_FRUITLESS_TRIES * len(servers.urls):
        error.args = (f"{shown(joined(url, wanted.path))}: {error}, after {at.fruitless} tries",)
        raise error
    if silent_s > PROGRESS_WITHIN_S:
        error.args = (f"{shown(joined(url, wanted.path))}: {error}; nothing useful came for {silent_s:.0f} s",)
        raise error
    if at.paused_s + pause > PROGRESS_WITHIN_S:
        error.args = (f"{shown(joined(url, wanted.path))}: {error}; it is to be asked again in {pause:.0f} s",)
        raise error
    servers.pause(pause, error)
    at.paused_s += pause
    at.since += pause


class _WrongRangeError(TransferError):
    """The server answered with another part than was asked for; it may still send all of it."""


def _one_try(wanted: FetchObject, http: Http, url: str, start: int, *, ranged: bool) -> Iterator[bytes]:
    whole = start == 0 and wanted.stop == wanted.size_bytes
    header = "" if whole or not ranged else f"bytes={start}-{wanted.stop - 1}"
    try:
        with http.get(joined(url, wanted.path), ranged=header) as response:
            skip = _checked(response, wanted, start, ranged=bool(header))
            yield from _part(response, wanted, start, skip)
    except TransferError as error:
        if error.status == RANGE_REFUSED and header:
            raise _WrongRangeError(str(error)) from error
        raise


def _part(response: Response, wanted: FetchObject, start: int, skip: int) -> Iterator[bytes]:
    left = wanted.stop - start
    # One byte more than is signed shows that the object is longer; a part of it says that by its headers.
    ends = wanted.stop == wanted.size_bytes
    for chunk in response.chunks(skip + left + (1 if ends else 0)):
        useful = chunk[skip:] if skip else chunk
        skip = max(0, skip - len(chunk))
        if len(useful) > left:
            raise TransferError("it is longer than signed", failure=Failure.WRONG, again=False)
        left -= len(useful)
        if useful:
            yield useful
    if left:
        raise TransferError(f"the transfer ended {left} bytes early")


def _checked(response: Response, wanted: FetchObject, start: int, *, ranged: bool) -> int:
    """How many bytes of the answer to skip to get to `start`.

    Raises:
        TransferError: The server says another length than the signed one, or sends another part.
    """
    if response.partial:
        if not ranged:
            raise TransferError("the server sends a part of it, and all of it was asked for")
        told = f"bytes {start}-{wanted.stop - 1}/"
        if response.content_range not in (f"{told}{wanted.size_bytes}", f"{told}*"):
            if response.content_range.startswith(told):
                raise _other_length(response.content_range.rpartition("/")[2], wanted)
            raise _WrongRangeError(f"{told.rstrip('/')} was asked for, and {response.content_range!r} came")
        return 0
    if response.length is not None and response.length != wanted.size_bytes:
        raise _other_length(str(response.length), wanted)
    return start


def _other_length(told: str, wanted: FetchObject) -> TransferError:
    reason = f"it is not as long as signed: {told} bytes instead of {wanted.size_bytes}"
    return TransferError(reason, failure=Failure.WRONG, again=False)
