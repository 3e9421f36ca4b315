"""The configured update server as the agent's `Server`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import urllib3

from bedrock.clock import Clock
from updater.agent.agent import Repository
from updater.agent.client import Origin, TrustedRepository
from updater.agent.config import Config
from updater.agent.fetch import HttpSource
from updater.agent.http import pool
from updater.agent.machine import RunningSystem
from updater.errors import RefusedError


@dataclass(frozen=True)
class HttpServerClient:
    """An update server reached by `url`, trusted from the root metadata in `root_path`."""

    url: str
    config: Config
    root_path: Path
    metadata_dir: Path
    clock: Clock

    @cached_property
    def _http(self) -> urllib3.PoolManager:
        return pool(self.config.timeouts)

    def repository(self, running: RunningSystem) -> Repository:
        """Its signed documents.

        Raises:
            RefusedError: The baked root is missing or does not verify.
        """
        try:
            root = self.root_path.read_bytes()
        except OSError as error:
            raise RefusedError(f"{self.root_path}: the root of trust cannot be read: {error.strerror}") from error
        origin = Origin(self.url, self.config.image or running.image, running.architecture)
        return TrustedRepository(
            origin,
            metadata_dir=self.metadata_dir,
            root=root,
            http=self._http,
            clock=self.clock,
            document_s=self.config.timeouts.document,
        )

    def source(self) -> HttpSource:
        """Its objects."""
        return HttpSource(self.url, self._http, self.clock)
