"""The partition table of a real disk: reading it, changing a partition's identity, finding the slots.

Rules: identities change one partition at a time, one copy of the table at a time, each durable and read back before
the next.  The table on the disk is the truth; the kernel keeps its own view until it reads the disk again.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from partitions.blockio import BlockDevice
from partitions.errors import BlockIOError, GptError
from partitions.gpt import (
    SECTOR_SIZE,
    Copy,
    GptEntry,
    GptHeader,
    GptTable,
    backup_lba_of,
    choose,
    parse_entries,
    parse_header,
)
from partitions.layout import TYPE_ESP, TYPE_XBOOTLDR, RootTypes, Slot, SlotIdentity, identity_of


@dataclass(frozen=True)
class SlotPartitions:
    """The two partitions of a slot and their indexes in the table."""

    slot: Slot
    data_index: int
    verity_index: int
    data: GptEntry
    verity: GptEntry

    @property
    def identity(self) -> SlotIdentity:
        """What the partitions say the slot holds."""
        return SlotIdentity(data_uuid=self.data.uuid, verity_uuid=self.verity.uuid)

    def holds(self, root_hash: str) -> bool:
        """Whether both partitions carry the identity of this root hash.

        Raises:
            ValueError: Not a root hash.
        """
        return self.identity == identity_of(root_hash)


@dataclass(frozen=True)
class DiskMap:
    """The partitions the updater works with."""

    esp: GptEntry
    xbootldr: GptEntry
    a: SlotPartitions
    b: SlotPartitions

    def slot(self, slot: Slot) -> SlotPartitions:
        """The partitions of a slot."""
        return self.a if slot is Slot.A else self.b

    def slot_booted_from(self, root_hash: str) -> Slot | None:
        """The slot that carries the identity of the running root hash; None when neither does.

        Raises:
            GptError: Both do, so it is unclear which one is running.
            ValueError: Not a root hash.
        """
        found = [partitions.slot for partitions in (self.a, self.b) if partitions.holds(root_hash)]
        if len(found) > 1:
            raise GptError(f"both slots carry the identity of root hash {root_hash}")
        return found[0] if found else None


def read_table(device: BlockDevice) -> GptTable:
    """Read the partition table of a disk, past the cache.

    Raises:
        GptError: Neither copy is readable.
        BlockIOError: The disk cannot be read.
    """
    sector_count = device.size_bytes // SECTOR_SIZE
    primary, primary_problem = _read_copy(device, Copy.PRIMARY, 1)
    backup_lba = backup_lba_of(primary[0] if primary else None, sector_count)
    backup, backup_problem = _read_copy(device, Copy.BACKUP, backup_lba)
    try:
        return choose(primary, backup)
    except GptError as error:
        raise GptError(f"{device.name}: {error}: {primary_problem}; {backup_problem}") from error


def write_identity(device: BlockDevice, index: int, *, uuid: UUID, label: str, attributes: int | None = None) -> None:
    """Write a partition's UUID and label (and attributes, unless None) to the disk, durably, and read them back.

    `index` counts the table's entries from 0.  A cut at any moment leaves a readable table with the old identity or
    the new one.

    Raises:
        GptError: There is no such partition, or the disk does not hold what was written.
        BlockIOError: The disk cannot be read or written.
    """
    write_table(device, read_table(device).with_entry(index, uuid=uuid, label=label, attributes=attributes))


def write_table(device: BlockDevice, table: GptTable) -> None:
    """Write both copies of the table to the disk, one after the other, durably, and read them back.

    A cut at any moment leaves a readable table, the old one or the new one.

    Raises:
        GptError: The disk does not hold what was written.
        BlockIOError: The disk cannot be read or written.
    """
    for copy in table.write_order:
        writes = table.copy_writes(copy)
        for offset, data in writes:
            device.pwrite(offset, data)
        device.sync()
        for offset, data in writes:
            if device.pread_uncached(offset, len(data)) != data:
                raise GptError(f"{device.name}: the {copy.value} partition table did not reach the disk")


def find_slots(table: GptTable, types: RootTypes) -> DiskMap:
    """Find the boot partitions and the slots: the first data partition of these types is slot A's, the second slot B's.

    Raises:
        GptError: The partitions are not those of a Twinhull disk, or not in its order.
    """
    data, verity = _indexes(table, types.data), _indexes(table, types.verity)
    slots_per_disk = len(Slot)
    if len(data) != slots_per_disk or len(verity) != slots_per_disk:
        raise GptError(f"the disk has {len(data)} root and {len(verity)} root-verity partitions, not two of each")
    if not data[0] < verity[0] < data[1] < verity[1]:
        raise GptError("the root partitions are not in the order root-a, root-a-verity, root-b, root-b-verity")
    a, b = (
        SlotPartitions(slot, data[place], verity[place], table.entries[data[place]], table.entries[verity[place]])
        for place, slot in enumerate(Slot)
    )
    return DiskMap(esp=_only(table, TYPE_ESP, "ESP"), xbootldr=_only(table, TYPE_XBOOTLDR, "XBOOTLDR"), a=a, b=b)


def _read_copy(
    device: BlockDevice, copy: Copy, own_lba: int
) -> tuple[tuple[GptHeader, tuple[GptEntry, ...]] | None, str]:
    """One copy of the table, or None and why it cannot be read.

    A read error counts as damage: a bad sector under one copy must not make the other unreadable.
    """
    try:
        header = parse_header(
            device.pread_uncached(own_lba * SECTOR_SIZE, SECTOR_SIZE),
            copy=copy,
            own_lba=own_lba,
            sector_count=device.size_bytes // SECTOR_SIZE,
        )
        raw = device.pread_uncached(header.entries_offset, header.entries_bytes)
        return (header, parse_entries(header, raw)), ""
    except (GptError, BlockIOError) as error:
        return None, str(error)


def _indexes(table: GptTable, type_uuid: UUID) -> list[int]:
    return [index for index, entry in enumerate(table.entries) if entry.type_uuid == type_uuid]


def _only(table: GptTable, type_uuid: UUID, name: str) -> GptEntry:
    found = [table.entries[index] for index in _indexes(table, type_uuid)]
    if len(found) != 1:
        raise GptError(f"the disk has {len(found)} {name} partitions, not one")
    return found[0]
