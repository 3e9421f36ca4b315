"""Fetches a document: whole or not at all, from the first server that has it, within one time limit."""

from __future__ import annotations

from dataclasses import dataclass

from updater.transfer.failure import TransferError
from updater.transfer.http import Http, Response
from updater.transfer.messages import Failure, Fetch
from updater.transfer.servers import Servers
from updater.transfer.urls import joined, shown

TRIES = 3


@dataclass(frozen=True)
class FetchedDocument:
    """The bytes, at most one more than the limit, and where they came from."""

    content: bytes
    url: str
    content_type: str


def fetch(wanted: Fetch, http: Http, servers: Servers) -> FetchedDocument:
    """Fetch a document.

    Raises:
        TransferError: No server has it, or none could be reached in time.
    """
    deadline = servers.clock.steady() + http.access.document_s
    count, missing = len(servers.urls), 0
    for tries in range(1, TRIES * count + 1):
        url = servers.first
        try:
            with http.get(joined(url, wanted.path)) as response:
                return FetchedDocument(_read(response, wanted.limit + 1, deadline, servers), url, response.content_type)
        except TransferError as error:
            missing += error.failure is Failure.MISSING
            pause = servers.failed(error, tries)
            left = deadline - servers.clock.steady()
            # What one server does not have may not have reached it yet; when none has it, that is the answer.
            done = missing == count or tries == TRIES * count or (count == 1 and not error.again)
            if done or pause >= left:
                error.args = (f"{shown(joined(url, wanted.path))}: {error}{_tries(tries)}",)
                raise
            servers.pause(pause, error)
    raise AssertionError("the last try returns or raises")


def _read(response: Response, limit: int, deadline: float, servers: Servers) -> bytes:
    found = bytearray()
    for chunk in response.chunks(limit):
        found += chunk
        if servers.clock.steady() > deadline:
            raise TransferError(f"only {len(found)} bytes had come when its time was over")
    if response.length is not None and len(found) < min(limit, response.length):
        raise TransferError(f"the transfer ended after {len(found)} of {response.length} bytes")
    return bytes(found)


def _tries(tries: int) -> str:
    return f" (after {tries} tries)" if tries > 1 else ""
