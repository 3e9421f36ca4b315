"""What the agent asks update servers for, and which of several places of a repository it believes to be the newest."""

from __future__ import annotations

import logging
from typing import Protocol

from bedrock.errors import TwinhullError
from partitions.version import Version
from updater.agent.install import ArtifactSource
from updater.agent.machine import RunningSystem
from updater.documents.boot_trust import BootTrust
from updater.documents.channel import Channel
from updater.documents.release import SignedRelease
from updater.errors import FetchError, RefusedError

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
