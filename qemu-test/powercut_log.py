"""Reads what QEMU's `blklogwrites` noted: every write, discard and flush of a guest to its disk, in order.

Sources: Linux, Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c; QEMU,
block/blklogwrites.c.  A request is noted when it begins, so a write that a flush did not wait for may be noted before
it; guests wait for the writes that a flush is to make durable.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bedrock.errors import TwinhullError

SECTOR = 512
MAGIC = 0x6A736677736872
VERSION = 1
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class PowercutError(TwinhullError):
    """A recording could not be made, read or judged."""


class RequestKind(Enum):
    """What a guest asked its disk to do."""

    WRITE = "write"
    DISCARD = "discard"
    FLUSH = "flush"


@dataclass(frozen=True)
class DiskRequest:
    """One request: bytes `offset` to `offset + length` of the disk; a write's data are at `data_at` of the log."""

    kind: RequestKind
    offset: int = 0
    length: int = 0
    data_at: int = 0


class WriteLog:
    """A log that is read in place."""

    def __init__(self, path: Path) -> None:
        """Open a log.

        Raises:
            PowercutError: It is not one.
        """
        with path.open("rb") as stream:
            size = path.stat().st_size
            if size < SECTOR:
                raise PowercutError(f"{path}: {size} bytes are not a log of writes")
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, self._count, self._sector = _SUPER.unpack_from(self._bytes)
        if magic != MAGIC or version != VERSION or self._sector not in (512, 4096):
            raise PowercutError(f"{path}: not a log of writes (magic {magic:x}, version {version})")
        self._path = path

    @property
    def size_bytes(self) -> int:
        """The size of the log."""
        return len(self._bytes)

    def data(self, request: DiskRequest) -> bytes:
        """What a request leaves in its range; zeros for a discard."""
        if request.kind is RequestKind.WRITE:
            return self._bytes[request.data_at : request.data_at + request.length]
        return bytes(request.length)

    def requests(self) -> Iterator[DiskRequest]:
        """All requests in order.  A write that also flushes before it (or is durable at its end) comes with flushes.

        Raises:
            PowercutError: The log is damaged or cut off.
        """
        at = self._sector
        for number in range(self._count):
            if at + _ENTRY.size > len(self._bytes):
                raise PowercutError(f"{self._path}: it ends before request {number} of {self._count}")
            sector, sectors, flags, length = _ENTRY.unpack_from(self._bytes, at)
            at += self._sector
            if flags & MARK:
                at += -(-length // self._sector) * self._sector
                continue
            size = sectors * self._sector
            if flags & FLUSH:
                yield DiskRequest(RequestKind.FLUSH)
            if flags & DISCARD:
                yield DiskRequest(RequestKind.DISCARD, sector * self._sector, size)
            elif size:
                if at + size > len(self._bytes):
                    raise PowercutError(f"{self._path}: request {number} has {size} bytes, the log ends before")
                yield DiskRequest(RequestKind.WRITE, sector * self._sector, size, at)
                at += size
            if flags & FUA:
                yield DiskRequest(RequestKind.FLUSH)
