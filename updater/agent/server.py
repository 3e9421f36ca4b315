"""The configured update server as the agent's `Server`."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedrock import process
from bedrock.clock import Clock
from updater.agent.asking import Repository
from updater.agent.client import Accepted, TrustedRepository
from updater.agent.config import Config
from updater.agent.host_paths import HostPaths
from updater.agent.kept_metadata import usable_folder
from updater.agent.machine import RunningSystem
from updater.agent.objects import ObjectSource
from updater.agent.spool import Spool
from updater.errors import NetworkSideError, RefusedError, UpdaterError
from updater.transfer.connection import Connect, Connection, NetworkSide, at_socket, started_here
from updater.transfer.messages import MAX_CA_BYTES, ServerAccess

SOCKET_UNIT = "twinhull-transfer.socket"
SYSTEMD_TIMEOUT_S = 60.0
_log = logging.getLogger(__name__)


def restart_socket() -> None:
    """Have systemd listen again where the network side is asked.

    Raises:
        ProcessError: It cannot.
    """
    process.run(("systemctl", "restart", SOCKET_UNIT), timeout_s=SYSTEMD_TIMEOUT_S)


def server_client(config: Config, paths: HostPaths, clock: Clock) -> ServerClient:
    """The configured servers, reached through the network side that systemd starts, or through one of our own."""
    connect = restarting(at_socket(paths.network_socket)) if paths.is_this_host else started_here()
    return ServerClient(config, paths, clock, connect, dict(os.environ))


def restarting(connect: Connect, restart: Callable[[], None] = restart_socket) -> Connect:
    """Connections that start the socket again when it is gone, once: without it a host would take no more updates."""

    @contextmanager
    def connected() -> Iterator[socket.socket]:
        with ExitStack() as stack:
            try:
                made = stack.enter_context(connect())
            except NetworkSideError:
                restart()
                made = stack.enter_context(connect())
            yield made

    return connected


@dataclass
class ServerClient:
    """Update servers reached through the network side, trusted from the root of trust in `paths`.

    `environment` may name proxies.
    """

    config: Config
    paths: HostPaths
    clock: Clock
    connect: Connect
    environment: Mapping[str, str]
    _turns: int = field(default=0, init=False)
    _network: Connection | None = field(default=None, init=False)

    def repository(self, running: RunningSystem) -> Repository:
        """Its signed documents.

        Raises:
            RefusedError: The baked root is missing or does not verify.
        """
        try:
            root = self.paths.root_of_trust.read_bytes()
        except OSError as error:
            raise RefusedError(
                f"{self.paths.root_of_trust}: the root of trust cannot be read: {error.strerror}"
            ) from error
        folder = usable_folder(self.paths.state / "tuf", self.paths.runtime / "tuf")
        accepted = Accepted(self.config.image or running.image, running.architecture)
        try:
            return TrustedRepository(
                accepted, metadata_dir=folder, root=root, network=self.network(), now=self.clock.now()
            )
        except RefusedError as error:
            error.args = (f"{self.paths.root_of_trust}: {error}",)
            raise

    def source(self) -> ObjectSource:
        """Its objects."""
        return ObjectSource(self.network(), Spool(self.paths.spool), self._connection)

    def network(self) -> NetworkSide:
        """The network side, the same one until `close`."""
        if self._network is None:
            self._network = self._connection()
        return self._network

    @property
    def places(self) -> int:
        """How many servers there are."""
        return len(self.config.urls)

    def next_server(self) -> None:
        """Ask the first server last from now on."""
        self.close()
        self._turns += 1

    def close(self) -> None:
        """Let the network side go."""
        if self._network is not None:
            self._network.close()
            self._network = None

    def _connection(self) -> Connection:
        access = access_of(self.config, self.environment)
        turn = self._turns % len(access.urls)
        in_turn = replace(access, urls=access.urls[turn:] + access.urls[:turn])
        return Connection(self.connect, in_turn, self.clock, _log.info)


def access_of(config: Config, environment: Mapping[str, str]) -> ServerAccess:
    """How the servers of the settings are reached.

    Raises:
        UpdaterError: The file of additional certificates cannot be used.
    """
    proxies = {"http": config.proxy, "https": config.proxy} if config.proxy else _proxies(environment)
    return ServerAccess(
        urls=config.urls,
        proxies=proxies,
        no_proxy=environment.get("no_proxy") or environment.get("NO_PROXY") or "",
        ca=_certificates(Path(config.ca)) if config.ca else "",
        bytes_per_s=config.bandwidth,
        connect_s=config.timeouts.connect,
        read_s=config.timeouts.read,
        document_s=config.timeouts.document,
    )


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies that environment variables name, in small letters first, as other programs read them."""
    found = {}
    for scheme in ("http", "https"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        if value := next((environment[name] for name in names if environment.get(name)), ""):
            found[scheme] = value
    return found


def _certificates(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UpdaterError(f"the certificates of `ca:` cannot be read: {path}: {error.strerror}") from error
    if len(text) > MAX_CA_BYTES or "-----BEGIN CERTIFICATE-----" not in text:
        raise UpdaterError(f"`ca:`: {path} must hold certificates in PEM, at most {MAX_CA_BYTES} bytes")
    return text
