"""The GUID partition table, as bytes and as values.

A disk has two copies of the table.  Either one is enough to read it; a write repairs both, one after the other, the
damaged one first, so that an intact copy is on the disk at every moment.  The protective MBR is not changed.
Source: UEFI Specification 2.10, section 5.3 "GUID Partition Table (GPT) Disk Layout".

Not here: creating partitions or moving them.  Pure: no I/O.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from uuid import UUID

from partitions.errors import GptError

SECTOR_SIZE = 512
LABEL_UNITS = 36
UNUSED_TYPE = UUID(int=0)

_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SIGNATURE = b"EFI PART"
_REVISION = b"\0\0\1\0"
_MAX_ENTRIES = 1024
_MAX_ATTRIBUTES = (1 << 64) - 1
_PRIMARY_LBA = 1


class Copy(Enum):
    """Which of the two copies of the table."""

    PRIMARY = "primary"
    BACKUP = "backup"


@dataclass(frozen=True)
class GptEntry:
    """One partition, or an unused entry (`used` is False, everything zero)."""

    type_uuid: UUID
    uuid: UUID
    first_lba: int
    last_lba: int
    attributes: int = 0
    label: str = ""

    @property
    def used(self) -> bool:
        """Whether there is a partition."""
        return self.type_uuid != UNUSED_TYPE

    @property
    def offset_bytes(self) -> int:
        """Where the partition begins on the disk."""
        return self.first_lba * SECTOR_SIZE

    @property
    def size_bytes(self) -> int:
        """How long the partition is."""
        return (self.last_lba - self.first_lba + 1) * SECTOR_SIZE if self.used else 0


@dataclass(frozen=True)
class GptHeader:
    """The header of one copy; its checksum and bounds were checked."""

    copy: Copy
    own_lba: int
    other_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_uuid: UUID
    entries_lba: int
    entry_count: int
    entries_crc: int

    @property
    def entries_offset(self) -> int:
        """Where this copy's entries begin on the disk."""
        return self.entries_lba * SECTOR_SIZE

    @property
    def entries_bytes(self) -> int:
        """How long the entries are."""
        return self.entry_count * _ENTRY.size

    @property
    def entries_sectors(self) -> int:
        """How many sectors the entries take."""
        return -(-self.entries_bytes // SECTOR_SIZE)


@dataclass(frozen=True)
class GptTable:
    """The partitions of a disk.  `entries[i]` is partition number i + 1, used or not.

    `damaged` names the unreadable copy, if there is one; writing the table repairs it.
    """

    disk_uuid: UUID
    first_usable_lba: int
    last_usable_lba: int
    primary_entries_lba: int
    backup_entries_lba: int
    backup_lba: int
    entries: tuple[GptEntry, ...]
    damaged: Copy | None = None

    def with_entry(
        self, index: int, *, uuid: UUID | None = None, label: str | None = None, attributes: int | None = None
    ) -> GptTable:
        """The same table with one partition's identity changed; None keeps a value.

        Raises:
            GptError: There is no such partition, or the label or the attributes do not fit.
        """
        if not 0 <= index < len(self.entries) or not self.entries[index].used:
            raise GptError(f"there is no partition {index + 1}")
        old = self.entries[index]
        new = replace(
            old,
            uuid=old.uuid if uuid is None else uuid,
            label=old.label if label is None else label,
            attributes=old.attributes if attributes is None else attributes,
        )
        _require_fitting(new, index)
        return replace(self, entries=(*self.entries[:index], new, *self.entries[index + 1 :]))

    def with_disk_uuid(self, uuid: UUID) -> GptTable:
        """The same table with another identity of the disk."""
        return replace(self, disk_uuid=uuid)

    @property
    def write_order(self) -> tuple[Copy, Copy]:
        """Which copy to write first: the damaged one, else the backup; the other only when the first is durable."""
        if self.damaged is Copy.PRIMARY:
            return Copy.PRIMARY, Copy.BACKUP
        return Copy.BACKUP, Copy.PRIMARY

    def copy_writes(self, copy: Copy) -> tuple[tuple[int, bytes], ...]:
        """The writes for one copy, as (offset on the disk, bytes): its entries, then its header."""
        raw_entries = b"".join(_entry_bytes(entry) for entry in self.entries)
        own, other, entries_lba = _PRIMARY_LBA, self.backup_lba, self.primary_entries_lba
        if copy is Copy.BACKUP:
            own, other, entries_lba = self.backup_lba, _PRIMARY_LBA, self.backup_entries_lba
        header = GptHeader(
            copy=copy,
            own_lba=own,
            other_lba=other,
            first_usable_lba=self.first_usable_lba,
            last_usable_lba=self.last_usable_lba,
            disk_uuid=self.disk_uuid,
            entries_lba=entries_lba,
            entry_count=len(self.entries),
            entries_crc=zlib.crc32(raw_entries),
        )
        return (header.entries_offset, raw_entries), (own * SECTOR_SIZE, _header_bytes(header))

    def writes(self) -> tuple[tuple[int, bytes], ...]:
        """All writes, in order.  The caller syncs between the two copies, that is after every second write."""
        first, second = self.write_order
        return self.copy_writes(first) + self.copy_writes(second)


def backup_lba_of(primary: GptHeader | None, sector_count: int) -> int:
    """The sector of the backup header: the one the primary names, else the disk's last one."""
    return primary.other_lba if primary else sector_count - 1


def parse_header(sector: bytes, *, copy: Copy, own_lba: int, sector_count: int) -> GptHeader:
    """Read one header sector, found at `own_lba` of a disk with `sector_count` sectors.

    Raises:
        GptError: Not a header, a wrong checksum, or numbers that do not fit the disk.
    """
    if len(sector) != SECTOR_SIZE or sector[:8] != _SIGNATURE:
        raise GptError(f"the {copy.value} partition table header has no signature")
    fields = _HEADER.unpack_from(sector)
    _, revision, header_size, crc, _, own, other, first, last, uuid, entries_lba, count, entry_size, entries_crc = (
        fields
    )
    if revision != _REVISION or not _HEADER.size <= header_size <= SECTOR_SIZE:
        raise GptError(f"the {copy.value} partition table header has revision {revision.hex()}, size {header_size}")
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:header_size]) != crc:
        raise GptError(f"the {copy.value} partition table header has a wrong checksum")
    if entry_size != _ENTRY.size or not 1 <= count <= _MAX_ENTRIES:
        raise GptError(f"the {copy.value} partition table has {count} entries of {entry_size} bytes")
    header = GptHeader(copy, own, other, first, last, UUID(bytes_le=uuid), entries_lba, count, entries_crc)
    _require_bounds(header, own_lba=own_lba, sector_count=sector_count)
    return header


def parse_entries(header: GptHeader, raw: bytes) -> tuple[GptEntry, ...]:
    """Read the entries that belong to a header.

    Raises:
        GptError: A wrong checksum, or partitions outside the usable sectors or over one another.
    """
    if len(raw) != header.entries_bytes or zlib.crc32(raw) != header.entries_crc:
        raise GptError(f"the {header.copy.value} partition entries have a wrong checksum")
    entries = tuple(_entry_from(fields) for fields in _ENTRY.iter_unpack(raw))
    used = sorted((entry for entry in entries if entry.used), key=lambda entry: entry.first_lba)
    for entry in used:
        if not header.first_usable_lba <= entry.first_lba <= entry.last_lba <= header.last_usable_lba:
            raise GptError(
                f"partition {entry.uuid} has sectors {entry.first_lba} to {entry.last_lba}, "
                f"usable are {header.first_usable_lba} to {header.last_usable_lba}"
            )
    for one, next_one in pairwise(used):
        if next_one.first_lba <= one.last_lba:
            raise GptError(f"partitions {one.uuid} and {next_one.uuid} overlap")
    return entries


def choose(
    primary: tuple[GptHeader, tuple[GptEntry, ...]] | None,
    backup: tuple[GptHeader, tuple[GptEntry, ...]] | None,
) -> GptTable:
    """The table of a disk from its copies; None stands for an unreadable copy.  An intact primary copy wins.

    Raises:
        GptError: Neither copy can be read.
    """
    if primary is not None:
        header, entries = primary
        sectors = header.entries_sectors
        usable_backup = backup if backup is not None and _same_geometry(header, backup[0]) else None
        return GptTable(
            disk_uuid=header.disk_uuid,
            first_usable_lba=header.first_usable_lba,
            last_usable_lba=header.last_usable_lba,
            primary_entries_lba=header.entries_lba,
            backup_entries_lba=usable_backup[0].entries_lba if usable_backup else header.other_lba - sectors,
            backup_lba=header.other_lba,
            entries=entries,
            damaged=None if usable_backup else Copy.BACKUP,
        )
    if backup is None:
        raise GptError("both copies of the partition table are damaged")
    header, entries = backup
    return GptTable(
        disk_uuid=header.disk_uuid,
        first_usable_lba=header.first_usable_lba,
        last_usable_lba=header.last_usable_lba,
        primary_entries_lba=_PRIMARY_LBA + 1,
        backup_entries_lba=header.entries_lba,
        backup_lba=header.own_lba,
        entries=entries,
        damaged=Copy.PRIMARY,
    )


def _same_geometry(primary: GptHeader, backup: GptHeader) -> bool:
    return (primary.disk_uuid, primary.first_usable_lba, primary.last_usable_lba, primary.entry_count) == (
        backup.disk_uuid,
        backup.first_usable_lba,
        backup.last_usable_lba,
        backup.entry_count,
    )


def _require_bounds(header: GptHeader, *, own_lba: int, sector_count: int) -> None:
    """Refuse a header whose numbers could misdirect a write."""
    entries_end = header.entries_lba + header.entries_sectors
    if header.copy is Copy.PRIMARY:
        sane = (
            header.entries_lba > _PRIMARY_LBA
            and entries_end <= header.first_usable_lba
            and header.last_usable_lba + header.entries_sectors < header.other_lba < sector_count
        )
    else:
        sane = (
            header.last_usable_lba < header.entries_lba
            and entries_end <= header.own_lba < sector_count
            and header.other_lba == _PRIMARY_LBA
            and _PRIMARY_LBA + header.entries_sectors < header.first_usable_lba
        )
    if header.own_lba != own_lba or not header.first_usable_lba <= header.last_usable_lba or not sane:
        raise GptError(f"the {header.copy.value} partition table header does not fit a disk of {sector_count} sectors")


def _require_fitting(entry: GptEntry, index: int) -> None:
    if "\0" in entry.label or len(_label_bytes(entry.label)) > 2 * LABEL_UNITS:
        raise GptError(f"partition {index + 1}: label {entry.label!r} does not fit in {LABEL_UNITS} UTF-16 units")
    if not 0 <= entry.attributes <= _MAX_ATTRIBUTES:
        raise GptError(f"partition {index + 1}: attributes {entry.attributes:#x} do not fit in 64 bits")


def _header_bytes(header: GptHeader) -> bytes:
    def packed(crc: int) -> bytes:
        return _HEADER.pack(
            _SIGNATURE,
            _REVISION,
            _HEADER.size,
            crc,
            0,
            header.own_lba,
            header.other_lba,
            header.first_usable_lba,
            header.last_usable_lba,
            header.disk_uuid.bytes_le,
            header.entries_lba,
            header.entry_count,
            _ENTRY.size,
            header.entries_crc,
        )

    return packed(zlib.crc32(packed(0))).ljust(SECTOR_SIZE, b"\0")


def _entry_bytes(entry: GptEntry) -> bytes:
    return _ENTRY.pack(
        entry.type_uuid.bytes_le,
        entry.uuid.bytes_le,
        entry.first_lba,
        entry.last_lba,
        entry.attributes,
        _label_bytes(entry.label),
    )


def _entry_from(fields: tuple[bytes, bytes, int, int, int, bytes]) -> GptEntry:
    type_uuid, uuid, first_lba, last_lba, attributes, raw_label = fields
    # A label may hold half a surrogate pair; a write must preserve it, because the label may be somebody else's.
    label = raw_label.decode("utf-16-le", errors="surrogatepass").split("\0", 1)[0]
    return GptEntry(UUID(bytes_le=type_uuid), UUID(bytes_le=uuid), first_lba, last_lba, attributes, label)


def _label_bytes(label: str) -> bytes:
    return label.encode("utf-16-le", errors="surrogatepass")
