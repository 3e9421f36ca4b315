"""A disk in memory that loses unsynced writes when its power is cut.

`Power` counts the steps (writes and syncs) of everything plugged into it and cuts at a chosen one, so that a test can
walk through every moment of an operation:

    for steps in itertools.count():
        power = Power()
        disk = MemoryDisk(content, power=power)
        power.cut_after(steps)
        try:
            operation(disk)
        except PowerCut:
            disk.cut()
            ... what is on the disk now must be fine ...
        else:
            break
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from partitions.blockio import check_range
from partitions.errors import BlockIOError

SECTOR = 512


class PowerCut(Exception):  # noqa: N818 - an event, not an error of the program
    """The power went away."""


class Power:
    """Feeds one or several fakes; each write or sync of any of them is one step."""

    def __init__(self) -> None:
        self.steps = 0
        self.off = False
        self._left: int | None = None
        self._fault: Exception | None = None

    def fail_after(self, steps: int, error: Exception) -> None:
        """Let `steps` more steps pass; the one after them fails with this error, and the next ones work again."""
        self._left, self._fault = steps, error

    def cut_after(self, steps: int) -> None:
        """Let `steps` more steps pass and cut at the one after them."""
        self._left, self._fault = steps, None

    def step(self) -> None:
        """One write or sync is about to happen.

        Raises:
            PowerCut: It will not.
            Exception: The planned fault.
        """
        self.require()
        if self._left is not None:
            if self._left == 0 and self._fault is not None:
                error, self._fault, self._left = self._fault, None, None
                raise error
            if self._left == 0:
                self.off = True
                raise PowerCut
            self._left -= 1
        self.steps += 1

    def require(self) -> None:
        """Do nothing while there is power.

        Raises:
            PowerCut: There is none.
        """
        if self.off:
            raise PowerCut

    def restore(self) -> None:
        """Switch on again, without a planned cut."""
        self.off = False
        self._left = self._fault = None


@dataclass(frozen=True)
class PendingWrite:
    """A write the disk has taken but not yet made durable."""

    offset: int
    data: bytes


class MemoryDisk:
    """A `BlockDevice` in memory.

    `durable` is what a power cut leaves; `pending` lists the writes since the last sync, oldest first.
    `journal` tells what happened: ("write", offset, length) and ("sync", 0, 0).
    """

    def __init__(self, content: bytes | int, *, name: str = "memory", power: Power | None = None) -> None:
        self.durable = bytearray(content)
        self.pending: list[PendingWrite] = []
        self.journal: list[tuple[str, int, int]] = []
        self.power = power or Power()
        self.torn = False
        self.uncached_reads = 0
        self.broken_ranges: list[range] = []
        self.closed = False
        self._current = bytearray(self.durable)
        self._name = name

    @property
    def size_bytes(self) -> int:
        return len(self.durable)

    @property
    def name(self) -> str:
        return self._name

    @property
    def content(self) -> bytes:
        """What a reader sees: durable and pending writes."""
        return bytes(self._current)

    def cut_after(self, steps: int) -> None:
        """Cut the power at the write or sync that follows `steps` more of them."""
        self.power.cut_after(steps)

    def cut(self, *, keep: Iterable[int] = ()) -> None:
        """Lose the pending writes, except those whose places in `pending` are kept; then the power is back."""
        kept = set(keep)
        for place, write in enumerate(self.pending):
            if place in kept:
                _apply(self.durable, write)
        self.pending.clear()
        self._current = bytearray(self.durable)
        self.power.restore()

    def corrupt(self, offset: int, *, flip: int = 1) -> None:
        """Flip bits of one byte, durably."""
        self.durable[offset] ^= flip
        self._current[offset] ^= flip

    def pread(self, offset: int, length: int) -> bytes:
        self.power.require()
        check_range(self, offset, length)
        self._require_readable(offset, length)
        return bytes(self._current[offset : offset + length])

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        check_range(self, offset, len(data))
        self.power.require()
        try:
            self.power.step()
        except PowerCut:
            self._tear(offset, bytes(data))
            raise
        write = PendingWrite(offset, bytes(data))
        self.pending.append(write)
        _apply(self._current, write)
        self.journal.append(("write", offset, len(data)))

    def sync(self) -> None:
        self.power.step()
        for write in self.pending:
            _apply(self.durable, write)
        self.pending.clear()
        self.journal.append(("sync", 0, 0))

    def pread_uncached(self, offset: int, length: int) -> bytes:
        self.uncached_reads += 1
        return self.pread(offset, length)

    def preadinto_uncached(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.pread_uncached(offset, len(buffer))

    def close(self) -> None:
        self.closed = True

    def _tear(self, offset: int, data: bytes) -> None:
        """With `torn`, the first half of the sectors of the write at which the power went away is on the disk."""
        if self.torn:
            half = len(data) // 2 // SECTOR * SECTOR
            _apply(self.durable, PendingWrite(offset, data[:half]))

    def _require_readable(self, offset: int, length: int) -> None:
        for broken in self.broken_ranges:
            if broken.start < offset + length and offset < broken.stop:
                raise BlockIOError(f"{self.name}: reading {length} bytes at {offset} failed: Input/output error")


def _apply(content: bytearray, write: PendingWrite) -> None:
    content[write.offset : write.offset + len(write.data)] = write.data
