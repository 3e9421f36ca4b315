"""What the agent asks update servers for, and which of several places of a repository it asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from bedrock.errors import TwinhullError
from partitions.version import Version
from updater.agent.install import ArtifactSource
from updater.agent.machine import RunningSystem
from updater.agent.state import PollResult
from updater.documents.boot_trust import BootTrust
from updater.documents.channel import Channel
from updater.documents.release import SignedRelease
from updater.errors import FetchError, PolicyError, RefusedError

Document = TypeVar("Document")
_log = logging.getLogger(__name__)


class Repository(Protocol):
    """The verified documents of the update repository."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of metadata that were accepted."""

    @property
    def has_news(self) -> bool:
        """Whether the refresh brought metadata that this host had not seen."""

    def refresh(self) -> None:
        """Fetch and verify the newest metadata."""

    def channel(self, name: str) -> Channel:
        """The verified channel document."""

    def release(self, version: Version, *, sha256: str | None) -> SignedRelease:
        """The verified release document."""

    def boot_trust(self) -> BootTrust | None:
        """What the firmware may start; None when the repository says nothing of that."""


class Server(Protocol):
    """Opens the documents and artifacts of a configured update server for a running system."""

    def repository(self, running: RunningSystem) -> Repository:
        """Its signed documents."""

    def source(self) -> ArtifactSource:
        """Its objects."""

    @property
    def places(self) -> int:
        """How many places of the same repository there are to ask."""

    def next_server(self) -> None:
        """Ask another place from now on; after the last one the first."""

    def close(self) -> None:
        """Let go of what was opened."""


class AnyPlace:
    """A `Repository` that goes on to the next place of a server where one answers wrongly or not at all.

    A place without keys could otherwise keep updates away by one document that it garbles, while others have it.
    """

    def __init__(self, server: Server, running: RunningSystem) -> None:
        self._server = server
        self._running = running
        self._found: Repository | None = None
        self._problem: TwinhullError | OSError | None = None
        # What was remarkable about places that failed then.
        self._remarked: list[str] = []

    @property
    def outcome(self) -> tuple[PollResult, str] | None:
        """How asking ended: badly with the first document that no place has as it should be; None when it did not."""
        if self._problem is None:
            return None if self._found is None else (PollResult.OK, "; ".join(self.remarks))
        refused = isinstance(self._problem, RefusedError)
        reason = "; ".join((str(self._problem), *self._remarked))
        return PollResult.REFUSED if refused else PollResult.FAILED, reason

    @property
    def remarks(self) -> tuple[str, ...]:
        """Those of the place that answered."""
        return self._found.remarks if self._found is not None else ()

    @property
    def has_news(self) -> bool:
        """Whether the place that answered brought news."""
        return self._found is not None and self._found.has_news

    def refresh(self) -> None:
        """Fetch and verify the newest metadata that a place shows."""
        with self._noted():
            self._found = newest_repository(self._server, self._running)

    def channel(self, name: str) -> Channel:
        """The verified channel document."""
        return self._read(lambda repository: repository.channel(name))

    def release(self, version: Version, *, sha256: str | None) -> SignedRelease:
        """The verified release document."""
        return self._read(lambda repository: repository.release(version, sha256=sha256))

    def boot_trust(self) -> BootTrust | None:
        """What the firmware may start."""
        return self._read(lambda repository: repository.boot_trust())

    def _read(self, read: Callable[[Repository], Document]) -> Document:
        """What the first place has that can be read, each asked once; the first one's error when none has."""
        errors: list[TwinhullError] = []
        with self._noted():
            for _ in range(self._server.places):
                try:
                    if self._found is None:
                        self._found = self._server.repository(self._running)
                        self._found.refresh()
                    return read(self._found)
                except (FetchError, RefusedError) as error:
                    _log.debug("%s", error)
                    errors.append(error)
                self._remarked += [each for each in self.remarks if each not in self._remarked]
                self._found = None
                self._server.next_server()
            raise errors[0]

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except PolicyError:
            # What was withdrawn was read.
            raise
        except (TwinhullError, OSError) as error:
            self._problem = self._problem or error
            raise


def newest_repository(server: Server, running: RunningSystem) -> Repository:
    """The repository of the first place that shows something new, else of the first whose metadata verify.

    A place that always shows the same could otherwise keep updates from a host that has others to ask.

    Raises:
        FetchError, RefusedError: The first place's error, when none answers with metadata that verify.
    """
    errors: list[TwinhullError] = []
    found = _first_of(server, running, errors, with_news=server.places > 1)
    if found is None and len(errors) < server.places:
        found = _first_of(server, running, errors, with_news=False)
    if found is None:
        raise errors[0]
    return found


def _first_of(
    server: Server, running: RunningSystem, errors: list[TwinhullError], *, with_news: bool
) -> Repository | None:
    for _ in range(server.places):
        repository = server.repository(running)
        try:
            repository.refresh()
        except (FetchError, RefusedError) as error:
            _log.debug("%s", error)
            errors.append(error)
        else:
            if repository.has_news or not with_news:
                return repository
        server.next_server()
    return None
