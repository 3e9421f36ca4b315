"""The partition of the UKIs in memory, which loses unsynced changes when its power is cut."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bedrock.errors import ProcessError
from partitions.uki import UkiContent, read_uki
from tests.fakes.memory_disk import Power
from updater.errors import SlotError


class FakeBootFolder:
    """A `BootFolder`: `durable` is what a power cut leaves (or, with `keep`, what was pending as well)."""

    def __init__(
        self, files: dict[str, bytes] | None = None, *, power: Power | None = None, room: int = 1 << 24
    ) -> None:
        self.durable = dict(files or {})
        self.power = power or Power()
        self.room = room
        self.corrupt_on_disk: set[str] = set()
        self.journal: list[tuple[str, ...]] = []
        self.second: bytes | None = None
        # No file system is left: it cannot be mounted.
        self.lost = False
        self.mounts = 0
        self.writable_mounts = 0
        # What happens while a file gets another name.
        self.meanwhile: Callable[[], object] = lambda: None
        self.current = dict(self.durable)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.current))

    def size_bytes(self, name: str) -> int:
        return len(self.current[name])

    def free_bytes(self) -> int:
        return self.room - sum(len(content) for content in self.current.values())

    @contextmanager
    def create(self, name: str) -> Iterator[Growing]:
        if name in self.current:
            raise FileExistsError(name)
        self.power.step()
        self.current[name] = b""
        try:
            yield Growing(self, name)
        except Exception:
            del self.current[name]
            raise
        self.power.step()
        self.durable[name] = self.current[name]
        self.journal.append(("create", name))

    def append(self, name: str, data: bytes) -> None:
        self.power.step()
        self.current[name] += data

    def authenticode(self, name: str) -> bytes | None:
        # What programs of tests are; any hash distinguishes them.
        return hashlib.sha256(self.durable[name]).digest() if name in self.durable else None

    def sha256_uncached(self, name: str) -> str:
        self.power.require()
        content = self.durable[name]
        if name in self.corrupt_on_disk:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return hashlib.sha256(content).hexdigest()

    def uki(self, name: str) -> UkiContent:
        return read_uki(io.BytesIO(self.current[name]), source=name)

    def rename(self, old: str, new: str) -> None:
        """One sector of the unmounted disk: nothing else is pending, and it is durable at once."""
        self.meanwhile()
        assert self.mounts == 0, "the boot partition is mounted"
        if new in self.current:
            raise SlotError(f"{new} is there already")
        self.power.step()
        self.current[new] = self.current.pop(old)
        self.durable[new] = self.durable.pop(old)
        self.journal.append(("rename", old, new))

    @contextmanager
    def mounted(self, *, writable: bool) -> Iterator[FakeBootFolder]:
        if self.lost:
            raise ProcessError("mount failed with exit code 32")
        self.mounts += 1
        self.writable_mounts += writable
        try:
            yield self
        finally:
            self.mounts -= 1

    def restore_boot_sector(self) -> bool:
        return False

    def make_anew(self) -> bool:
        """What is mounted after that has no files."""
        made, self.lost = self.lost, False
        return made

    def second_choice(self) -> bytes | None:
        return self.second

    def choose_second(self, conf: bytes) -> None:
        assert self.mounts == 0, "the boot partition is mounted"
        self.power.step()
        self.second = conf
        self.journal.append(("second", conf.decode().split("default ")[1].split("[")[0]))

    def remove(self, *files: str) -> None:
        for name in files:
            self.power.step()
            del self.current[name]
            self.journal.append(("remove", name))
        if self.mounts == 0:
            self.sync()

    def sync(self) -> None:
        self.power.step()
        self.durable = dict(self.current)
        self.journal.append(("sync",))

    def cut(self, *, keep: bool) -> None:
        """Lose what was not synced, or with `keep` have had the luck that it reached the disk."""
        if keep:
            self.durable = dict(self.current)
        self.current = dict(self.durable)


class Growing:
    """A file being written."""

    def __init__(self, folder: FakeBootFolder, name: str) -> None:
        self._folder = folder
        self._name = name

    def write(self, data: bytes | memoryview) -> None:
        self._folder.append(self._name, bytes(data))
