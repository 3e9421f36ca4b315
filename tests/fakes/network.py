"""A network side in this process: the worker's own functions, with a clock that jumps instead of waiting."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from tests.fakes.clock import FakeClock
from updater.errors import FetchError, RefusedError
from updater.transfer import documents, objects, unpacking
from updater.transfer.connection import Received, Sink
from updater.transfer.failure import TransferError
from updater.transfer.http import Http, within
from updater.transfer.messages import Failure, Fetch, FetchObject, ServerAccess, Unpack
from updater.transfer.servers import Servers
from updater.transfer.urls import shown

Value = TypeVar("Value")


@dataclass
class LocalNetwork:
    """A `NetworkSide` that asks the servers of `urls`; `said` is what it would have logged.

    `unpacked` is whether each file that was unpacked was still arriving.
    """

    urls: list[str]
    clock: FakeClock = field(default_factory=FakeClock)
    said: list[str] = field(default_factory=list)
    access: ServerAccess | None = None
    closed: int = 0
    unpacked: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._http = Http(self.access or ServerAccess(tuple(self.urls), connect_s=5, read_s=5), bounded_here)
        self._servers = Servers(list(self.urls), self.clock, self.said.append, lambda: 0.0)

    @property
    def servers(self) -> int:
        return len(self.urls)

    def document(self, path: str, limit: int) -> Received:
        found = told(lambda: documents.fetch(Fetch(path, limit), self._http, self._servers))
        if len(found.content) > limit:
            raise RefusedError(f"{path} is longer than {limit} bytes")
        return Received(found.content, shown(found.url), found.content_type)

    def object(self, wanted: FetchObject, sink: Sink, *, only: int | None = None) -> str:
        alone = Servers([self.urls[only]], self.clock, self.said.append, lambda: 0.0) if only is not None else None
        servers = alone or self._servers
        return told(
            lambda: shown(objects.fetch_object(wanted, self._http, servers, lambda data: sink(memoryview(data))))
        )

    def unpack(self, packed_file: int, raw_bytes: int, sink: Sink, *, arriving: bool = False) -> None:
        self.unpacked.append(arriving)
        with os.fdopen(os.dup(packed_file), "rb", buffering=0) as packed:
            told(lambda: unpacking.unpack(Unpack(raw_bytes), packed, lambda data: sink(memoryview(data))))

    def renew(self) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1


def bounded_here(seconds: float, what: str) -> AbstractContextManager[None]:
    """Bound the time of a block where this process can be interrupted: a worker has no other thread, a test may."""
    return within(seconds, what) if threading.current_thread() is threading.main_thread() else nullcontext()


def told(ask: Callable[[], Value]) -> Value:
    """Turn the worker's error into the agent's, as the connection does."""
    try:
        return ask()
    except TransferError as error:
        if error.failure in (Failure.WRONG, Failure.DAMAGED):
            raise RefusedError(str(error)) from error
        raise FetchError(str(error), status=error.status, retry_after_s=error.retry_after_s) from error
