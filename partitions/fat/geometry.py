"""Where the parts of a FAT file system are, from its boot sector.

All offsets and sizes are in bytes from the start of the file system.
Source: Microsoft FAT Specification (2005), sections 3.1 to 3.5.  Pure: no I/O.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from partitions.errors import FatError

SECTOR_BYTES = 512
FIRST_CLUSTER = 2
SLOT_BYTES = 32
# Where FAT32 keeps the copy of its boot sector when the first one does not say so any more.
BACKUP_SECTOR = 6
SECTOR_SIZES = (512, 1024, 2048, 4096)

_COMMON = struct.Struct("<11xHBHBHHBH4x4xI")
_FAT32 = struct.Struct("<36xIHHIHH12xxB")
_FAT16_STATE = 37
_STATE_DIRTY = 1
_NO_MIRRORING = 0x80
_ACTIVE_TABLE = 0x0F
_SIGNATURE = b"\x55\xaa"
_MOST_CLUSTER_BYTES = 64 << 10
_MOST_TABLES = 2
_FEWEST_FAT16 = 4085
_FEWEST_FAT32 = 65525
_MOST_FAT32 = 0x0FFFFFF5
_MOST_TABLE_BYTES = 64 << 20


class FatKind(Enum):
    """The two kinds that are supported; FAT12 is not."""

    FAT16 = 2
    FAT32 = 4

    @property
    def entry_bytes(self) -> int:
        """The size of an entry of the table of clusters."""
        return self.value


@dataclass(frozen=True)
class FatGeometry:
    """The parts of a file system: reserved sectors, tables of clusters, FAT16's root folder, clusters.

    `root_bytes` is 0 on FAT32, whose root folder is the chain of `root_cluster`; that is 0 on FAT16.
    `dirty`: the mark of a file system that was mounted for writing and not unmounted.
    """

    kind: FatKind
    sector_bytes: int
    cluster_bytes: int
    table_offset: int
    table_bytes: int
    table_copies: int
    active_table: int
    root_offset: int
    root_bytes: int
    root_cluster: int
    data_offset: int
    cluster_count: int
    dirty: bool
    from_backup: bool = False

    @property
    def firmware_readable(self) -> bool:
        """Whether EDK2 reads it: it refuses FAT32 with too few clusters, and never looks at the backup."""
        return not self.from_backup and (self.kind is FatKind.FAT16 or self.cluster_count >= _FEWEST_FAT32)

    def has_cluster(self, cluster: int) -> bool:
        """Whether there is a cluster of this number."""
        return FIRST_CLUSTER <= cluster < FIRST_CLUSTER + self.cluster_count

    def cluster_offset(self, cluster: int) -> int:
        """Where a cluster begins.

        Raises:
            FatError: There is no such cluster.
        """
        if not self.has_cluster(cluster):
            raise FatError(f"there is no cluster {cluster}: the file system has {self.cluster_count}")
        return self.data_offset + (cluster - FIRST_CLUSTER) * self.cluster_bytes


def parse_boot_sector(sector: bytes, *, size_bytes: int, from_backup: bool = False) -> FatGeometry:
    """Read a boot sector of at least 512 bytes; `size_bytes` is what the partition has.

    Raises:
        FatError: It is damaged, of another file system, or larger than the partition.
    """
    if len(sector) < SECTOR_BYTES or sector[510:512] != _SIGNATURE:
        raise FatError("the boot sector has no signature: not a FAT file system")
    sector_bytes, per_cluster, reserved, copies, roots, small, _, short_table, large = _COMMON.unpack_from(sector)
    if sector_bytes not in SECTOR_SIZES:
        raise FatError(f"sectors of {sector_bytes} bytes: not a FAT file system")
    if not per_cluster or per_cluster & (per_cluster - 1) or per_cluster * sector_bytes > _MOST_CLUSTER_BYTES:
        raise FatError(f"clusters of {per_cluster} sectors are not possible")
    if not reserved or not 1 <= copies <= _MOST_TABLES:
        raise FatError(f"{reserved} reserved sectors and {copies} tables of clusters are not possible")
    if bool(small) == bool(large):
        raise FatError(f"the length is given as {small} and as {large} sectors")
    kind = FatKind.FAT16 if short_table else FatKind.FAT32
    long_table, flags, version, root_cluster, _, _, state = _FAT32.unpack_from(sector)
    total = small or large
    if total * sector_bytes > size_bytes:
        raise FatError(f"the file system has {total * sector_bytes} bytes, the partition {size_bytes}")
    table_sectors = short_table or long_table
    root_sectors = -(-roots * SLOT_BYTES // sector_bytes)
    first_data = reserved + copies * table_sectors + root_sectors
    if not table_sectors or first_data >= total:
        raise FatError(f"a table of {table_sectors} sectors does not fit into {total} sectors")
    if kind is FatKind.FAT16:
        root_cluster, flags, state = 0, 0, sector[_FAT16_STATE]
    elif version:
        raise FatError(f"FAT32 of version {version} is not known")
    geometry = FatGeometry(
        kind=kind,
        sector_bytes=sector_bytes,
        cluster_bytes=per_cluster * sector_bytes,
        table_offset=reserved * sector_bytes,
        table_bytes=table_sectors * sector_bytes,
        table_copies=copies,
        active_table=flags & _ACTIVE_TABLE if flags & _NO_MIRRORING else 0,
        root_offset=(reserved + copies * table_sectors) * sector_bytes,
        root_bytes=root_sectors * sector_bytes,
        root_cluster=root_cluster,
        data_offset=first_data * sector_bytes,
        cluster_count=(total - first_data) // per_cluster,
        dirty=bool(state & _STATE_DIRTY),
        from_backup=from_backup,
    )
    _require_sound(geometry, roots)
    return geometry


def _require_sound(geometry: FatGeometry, roots: int) -> None:
    count = geometry.cluster_count
    if geometry.kind is FatKind.FAT16:
        if not _FEWEST_FAT16 <= count < _FEWEST_FAT32:
            raise FatError(f"{count} clusters are not those of FAT16")
        if not roots:
            raise FatError("FAT16 without a root folder")
    else:
        if not 1 <= count <= _MOST_FAT32:
            raise FatError(f"{count} clusters are not those of FAT32")
        if roots or not geometry.has_cluster(geometry.root_cluster):
            raise FatError(f"FAT32 with {roots} fixed root entries and root cluster {geometry.root_cluster}")
    if geometry.active_table >= geometry.table_copies:
        raise FatError(f"table {geometry.active_table} is to be used, of {geometry.table_copies}")
    needed = (count + FIRST_CLUSTER) * geometry.kind.entry_bytes
    if not needed <= geometry.table_bytes <= _MOST_TABLE_BYTES:
        raise FatError(f"a table of {geometry.table_bytes} bytes for {count} clusters")
