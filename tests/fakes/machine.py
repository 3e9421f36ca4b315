"""A machine for the agent: the in-memory twin host, a clock that jumps, and a server that has releases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from partitions.blockio import BlockDevice
from partitions.entries import BootEntry
from partitions.version import Version
from tests.fakes.boot_folder import FakeBootFolder
from tests.fakes.clock import FakeClock
from tests.fakes.documents import document_sha256, reference_to, some_reference
from tests.fakes.firmware import MemoryDatabases
from tests.fakes.twin_host import BuiltRelease, MemorySource, TwinHost
from updater.agent.boot_trust.judging import BootProgram
from updater.agent.efi import InitrdFailure
from updater.agent.machine import RunningSystem
from updater.documents.boot_trust import BootTrust
from updater.documents.channel import Channel
from updater.documents.release import Architecture, SignedRelease
from updater.errors import FetchError, RefusedError


class FakeMachine:
    """A `Machine` over a `TwinHost`."""

    def __init__(self, host: TwinHost) -> None:
        self.host = host
        self.clock = FakeClock()
        self.one_shot: str | None = None
        self.reboots: list[bool] = []
        self.boots = 1
        self.gate_closed = False
        self.programs: tuple[BootProgram, ...] = ()
        self.firmware = MemoryDatabases()
        self.repaired_loaders: tuple[str, ...] = ()
        # What the initrd of an earlier boot left behind.
        self.failure: InitrdFailure | None = None
        # What asking for what runs, and choosing the next boot, end with.
        self.error: Exception | None = None
        self.one_shot_error: Exception | None = None
        self.reboot_errors: list[Exception] = []

    def running(self) -> RunningSystem:
        if self.error is not None:
            raise self.error
        release = self.host.running.release
        return RunningSystem(
            image=release.image,
            version=release.version,
            root_hash=release.root_hash,
            architecture=Architecture.X86_64,
            host_id="m",
            boot_id=f"boot-{self.boots}",
        )

    @contextmanager
    def disk(self, *, writable: bool) -> Iterator[BlockDevice]:
        yield self.host.disk

    @property
    def boot(self) -> FakeBootFolder:
        return self.host.folder

    @property
    def esp(self) -> FakeBootFolder:
        return self.host.esp

    def boot_programs(self, running: BootEntry | None) -> tuple[BootProgram, ...]:
        return self.programs

    def databases(self) -> MemoryDatabases:
        return self.firmware

    def keep_ways_in(self) -> tuple[str, ...]:
        return self.repaired_loaders

    def initrd_failure(self) -> InitrdFailure | None:
        return self.failure

    def forget_initrd_failure(self) -> None:
        self.failure = None

    def set_one_shot(self, entry_name: str) -> None:
        if self.one_shot_error is not None:
            raise self.one_shot_error
        self.one_shot = entry_name

    def secure_boot(self) -> bool | None:
        return True

    def close_gate(self) -> None:
        self.gate_closed = True

    def foreign_arguments(self) -> tuple[str, ...]:
        return ()

    def reboot(self, *, force: bool) -> None:
        if self.reboot_errors:
            raise self.reboot_errors.pop()
        self.reboots.append(force)

    def power_cycle(self) -> Version | None:
        """Boot again the way the firmware and the loader do; the one-shot choice is used up."""
        self.host.power.restore()
        self.boots += 1
        once, self.one_shot = self.one_shot, None
        return self.host.boot(once)

    def entry_names(self) -> tuple[str, ...]:
        return self.host.folder.names()


@dataclass
class FakeServer:
    """A `Server` with a channel and releases; `error` is what every question gets instead of an answer.

    `errors_of_others` are those of its other places, in their order; None for one that answers.  Of those that answer,
    the places in `stale` show nothing new, and `garbled` is what a place has instead of a document.
    """

    channel_now: Channel
    releases: dict[str, BuiltRelease] = field(default_factory=dict)
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    transfer: MemorySource | None = None
    last: BuiltRelease | None = None
    trust: BootTrust | None = None
    remarks: tuple[str, ...] = ()
    errors_of_others: tuple[Exception | None, ...] = ()
    stale: frozenset[int] = frozenset()
    garbled: dict[tuple[int, str], Exception] = field(default_factory=dict)
    turn: int = 0
    closed: int = 0

    def repository(self, running: RunningSystem) -> FakeServer:
        return self

    def refresh(self) -> None:
        self.asked.append("refresh")
        error = (self.error, *self.errors_of_others)[self.turn]
        if error is not None:
            raise error

    def channel(self, name: str) -> Channel:
        self._ungarbled("channel")
        return self.channel_now

    def release(self, version: Version, *, sha256: str | None) -> SignedRelease:
        self._ungarbled("release")
        self.asked.append(str(version))
        if str(version) not in self.releases:
            raise FetchError(f"there is no release {version}")
        self.last = self.releases[str(version)]
        found = SignedRelease(self.last.release, document_sha256(self.last.release))
        if sha256 not in (None, found.sha256):
            raise RefusedError(f"release {version} is not the one that was chosen")
        return found

    def boot_trust(self) -> BootTrust | None:
        self._ungarbled("boot_trust")
        return self.trust

    def _ungarbled(self, document: str) -> None:
        if (self.turn, document) in self.garbled:
            raise self.garbled[self.turn, document]

    def source(self) -> MemorySource:
        if self.transfer is not None:
            return self.transfer
        assert self.last is not None
        return MemorySource(self.last)

    @property
    def places(self) -> int:
        return 1 + len(self.errors_of_others)

    @property
    def has_news(self) -> bool:
        return self.turn not in self.stale

    def next_server(self) -> None:
        self.turn = (self.turn + 1) % self.places

    def close(self) -> None:
        self.closed += 1

    def point_to(self, version: str) -> None:
        reference = (
            reference_to(self.releases[version].release) if version in self.releases else some_reference(version)
        )
        self.channel_now = replace(self.channel_now, release=reference)
