"""A folder of boot entries in memory that loses unsynced changes when its power is cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.fakes.memory_disk import Power


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
        # What happens while a file gets another name.
        self.meanwhile: Callable[[], object] = lambda: None
        self._current = dict(self.durable)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._current))

    def size_bytes(self, name: str) -> int:
        return len(self._current[name])

    def free_bytes(self) -> int:
        return self.room - sum(len(content) for content in self._current.values())

    @contextmanager
    def create(self, name: str) -> Iterator[Growing]:
        if name in self._current:
            raise FileExistsError(name)
        self.power.step()
        self._current[name] = b""
        try:
            yield Growing(self, name)
        except Exception:
            del self._current[name]
            raise
        self.power.step()
        self.durable[name] = self._current[name]
        self.journal.append(("create", name))

    def append(self, name: str, data: bytes) -> None:
        self.power.step()
        self._current[name] += data

    def authenticode(self, name: str) -> bytes | None:
        # What programs of tests are; any hash distinguishes them.
        return hashlib.sha256(self.durable[name]).digest() if name in self.durable else None

    def sha256_uncached(self, name: str) -> str:
        self.power.require()
        content = self.durable[name]
        if name in self.corrupt_on_disk:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return hashlib.sha256(content).hexdigest()

    def rename(self, old: str, new: str) -> None:
        self.meanwhile()
        if new in self._current:
            raise FileExistsError(new)
        self.power.step()
        self._current[new] = self._current.pop(old)
        self.journal.append(("rename", old, new))

    def remove(self, name: str) -> None:
        self.power.step()
        del self._current[name]
        self.journal.append(("remove", name))

    def sync(self) -> None:
        self.power.step()
        self.durable = dict(self._current)
        self.journal.append(("sync",))

    def cut(self, *, keep: bool) -> None:
        """Lose what was not synced, or with `keep` have had the luck that it reached the disk."""
        if keep:
            self.durable = dict(self._current)
        self._current = dict(self.durable)


class Growing:
    """A file being written."""

    def __init__(self, folder: FakeBootFolder, name: str) -> None:
        self._folder = folder
        self._name = name

    def write(self, data: bytes | memoryview) -> None:
        self._folder.append(self._name, bytes(data))
