"""A change of a FAT32 file system as writes in an order in which a power cut at any point is safe.

Two copies of the file system, before and after, are compared sector by sector.  Clusters that were free before are
written first: nothing refers to them yet.  When a file was added, the table of clusters comes next and the folders
last; when one was renamed or removed, the folders come before the table.  A power cut only leaves clusters that
belong to no file.
Source: Microsoft FAT specification of 2005, sections 3.1 to 3.5 and 4.  Pure: no I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from imagebuild.errors import BuildError

SECTOR = 512
_ENTRY_BYTES = 4
_ENTRY_MASK = 0x0FFFFFFF
_FIRST_CLUSTER = 2
_BOOT_SECTOR = struct.Struct("<11xHBHBHHBH8xII")
_MIN_BYTES = 512


class SectorUse(Enum):
    """What a sector belongs to."""

    FREE = "clusters that were free"
    TABLE = "the table of clusters"
    FOLDERS = "folders and files that were there"


ADDED = (SectorUse.FREE, SectorUse.TABLE, SectorUse.FOLDERS)
RENAMED = (SectorUse.FREE, SectorUse.FOLDERS, SectorUse.TABLE)


@dataclass(frozen=True)
class Patch:
    """Bytes to be written at a place of the file system."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Geometry:
    """Where the parts of a FAT32 file system begin, in bytes."""

    table: int
    data: int
    cluster: int

    @classmethod
    def read(cls, boot_sector: bytes) -> Geometry:
        """Read the boot sector.

        Raises:
            BuildError: It is not FAT32.
        """
        if len(boot_sector) < _MIN_BYTES or boot_sector[510:512] != b"\x55\xaa":
            raise BuildError("the boot partition holds no FAT file system")
        sector, per_cluster, reserved, tables, roots, _, _, small, _, large = _BOOT_SECTOR.unpack_from(boot_sector)
        if roots or small or sector not in (512, 1024, 2048, 4096) or not (per_cluster and tables and large):
            raise BuildError("the boot partition is FAT, but not FAT32, which a build makes")
        table = reserved * sector
        return cls(table, table + tables * large * sector, per_cluster * sector)

    def part_of(self, offset: int, before: FreeClusters) -> SectorUse:
        """What the sector at `offset` belonged to before the change."""
        if offset < self.data:
            return SectorUse.TABLE
        cluster = _FIRST_CLUSTER + (offset - self.data) // self.cluster
        return SectorUse.FREE if before.is_free(cluster) else SectorUse.FOLDERS


@dataclass(frozen=True)
class FreeClusters:
    """The table of clusters as it was."""

    table: bytes

    def is_free(self, cluster: int) -> bool:
        """Whether nothing was in this cluster."""
        raw = self.table[cluster * _ENTRY_BYTES : (cluster + 1) * _ENTRY_BYTES]
        return int.from_bytes(raw, "little") & _ENTRY_MASK == 0


def differences(before: bytes, after: bytes, *, offset: int) -> Iterator[Patch]:
    """The sectors in which two pieces of equal length differ; `offset` is where they begin."""
    for start in range(0, len(before), SECTOR):
        new = after[start : start + SECTOR]
        if new != before[start : start + SECTOR]:
            yield Patch(offset + start, new)


def in_order(
    changes: Iterable[Patch], geometry: Geometry, before: FreeClusters, order: tuple[SectorUse, ...]
) -> tuple[tuple[Patch, ...], ...]:
    """The changes in groups, each of which must be on the disk before the next begins; neighbours are joined."""
    parts = [(geometry.part_of(change.offset, before), change) for change in changes]
    groups = (_joined(change for part, change in parts if part is wanted) for wanted in order)
    return tuple(group for group in groups if group)


def _joined(changes: Iterable[Patch]) -> tuple[Patch, ...]:
    joined: list[Patch] = []
    for change in changes:
        if joined and joined[-1].offset + len(joined[-1].data) == change.offset:
            joined[-1] = Patch(joined[-1].offset, joined[-1].data + change.data)
        else:
            joined.append(change)
    return tuple(joined)
