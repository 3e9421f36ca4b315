"""Identities on a disk, and the way to them."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest

from partitions.disk import find_slots, read_table, write_identity
from partitions.errors import GptError
from partitions.layout import EMPTY_ATTRIBUTES, Slot, identity_of, root_types
from tests.fakes.gpt_disk import ROOT, ROOT_VERITY, SECTOR, PartitionSpec, disk_image, twin_parts
from tests.fakes.memory_disk import MemoryDisk, PowerCut

TYPES = root_types("x86-64")
IMAGE = disk_image(twin_parts())
HASH_1 = "1" * 64
HASH_2 = "2" * 32 + "3" * 32
NEW_UUID = UUID(int=99)


def set_identity(disk: MemoryDisk, data_index: int, root_hash: str) -> None:
    identity = identity_of(root_hash)
    write_identity(disk, data_index, uuid=identity.data_uuid, label="host_1")
    write_identity(disk, data_index + 1, uuid=identity.verity_uuid, label="host_1")


def test_slots_are_told_apart_by_position() -> None:
    found = find_slots(read_table(MemoryDisk(IMAGE)), TYPES)
    assert (found.esp.label, found.xbootldr.label) == ("esp", "xbootldr")
    assert (found.a.data_index, found.a.verity_index, found.b.data_index, found.b.verity_index) == (2, 3, 4, 5)
    assert found.slot(Slot.B) is found.b
    assert found.slot(Slot.A).slot is Slot.A


def test_running_slot_is_the_one_with_both_halves_of_the_root_hash() -> None:
    disk = MemoryDisk(IMAGE)
    set_identity(disk, 4, HASH_2)
    found = find_slots(read_table(disk), TYPES)
    assert found.slot_booted_from(HASH_2) is Slot.B
    assert found.slot_booted_from(HASH_1) is None


def test_half_an_identity_is_none() -> None:
    disk = MemoryDisk(IMAGE)
    write_identity(disk, 4, uuid=identity_of(HASH_2).data_uuid, label="host_1")
    assert find_slots(read_table(disk), TYPES).slot_booted_from(HASH_2) is None


def test_two_slots_of_one_identity_are_refused() -> None:
    disk = MemoryDisk(IMAGE)
    set_identity(disk, 2, HASH_1)
    set_identity(disk, 4, HASH_1)
    with pytest.raises(GptError, match="both slots"):
        find_slots(read_table(disk), TYPES).slot_booted_from(HASH_1)


def without(index: int) -> list[PartitionSpec]:
    parts = twin_parts()
    del parts[index]
    return parts


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (without(0), "0 ESP"),
        (without(1), "0 XBOOTLDR"),
        (without(2), "1 root and 2 root-verity"),
        ([*twin_parts()[:2], *twin_parts()[4:6], *without(5)[2:4], *twin_parts()[6:]], None),
    ],
)
def test_disk_of_another_kind_is_refused(parts: list[PartitionSpec], message: str | None) -> None:
    table = read_table(MemoryDisk(disk_image(parts, sectors=2048)))
    if message is None:
        assert find_slots(table, TYPES).a.data.uuid == UUID(int=5)
    else:
        with pytest.raises(GptError, match=message):
            find_slots(table, TYPES)


def test_slots_out_of_order_are_refused() -> None:
    parts = twin_parts()
    kinds = [ROOT_VERITY, ROOT, ROOT, ROOT_VERITY]
    parts[2:6] = [
        PartitionSpec(kind, part.uuid, part.first_lba, part.last_lba)
        for kind, part in zip(kinds, parts[2:6], strict=True)
    ]
    with pytest.raises(GptError, match="not in the order"):
        find_slots(read_table(MemoryDisk(disk_image(parts))), TYPES)


def test_slots_of_another_architecture_are_not_ours() -> None:
    with pytest.raises(GptError, match="0 root and 0 root-verity"):
        find_slots(read_table(MemoryDisk(IMAGE)), root_types("arm64"))


def test_identity_is_written_copy_by_copy_with_a_sync_after_each() -> None:
    disk = MemoryDisk(IMAGE)
    write_identity(disk, 4, uuid=NEW_UUID, label="_empty", attributes=EMPTY_ATTRIBUTES)
    last = len(IMAGE) // SECTOR - 1
    assert [(kind, offset // SECTOR) for kind, offset, _ in disk.journal] == [
        ("write", last - 32),
        ("write", last),
        ("sync", 0),
        ("write", 2),
        ("write", 1),
        ("sync", 0),
    ]
    entry = read_table(disk).entries[4]
    assert (entry.uuid, entry.label, entry.attributes) == (NEW_UUID, "_empty", EMPTY_ATTRIBUTES)


def test_attributes_stay_when_not_given() -> None:
    disk = MemoryDisk(IMAGE)
    write_identity(disk, 4, uuid=NEW_UUID, label="a", attributes=1 << 60)
    write_identity(disk, 4, uuid=NEW_UUID, label="b")
    assert read_table(disk).entries[4].attributes == 1 << 60


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("damage", [None, 1, -1], ids=["sound", "primary-damaged", "backup-damaged"])
def test_a_cut_at_any_write_leaves_the_old_identity_or_the_new(damage: int | None, *, torn: bool) -> None:
    outcomes = set()
    writes_and_syncs = 6
    # Writes that the disk accepted but did not confirm may have reached it nevertheless, in any order.
    for steps, kept in itertools.product(range(writes_and_syncs), [(), (0,), (1,), (0, 1)]):
        disk = MemoryDisk(IMAGE)
        disk.torn = torn
        if damage is not None:
            disk.corrupt(damage * SECTOR + 60 if damage > 0 else len(IMAGE) - SECTOR + 60)
        disk.cut_after(steps)
        with pytest.raises(PowerCut):
            write_identity(disk, 4, uuid=NEW_UUID, label="host_2")
        disk.cut(keep=kept)
        entry = read_table(disk).entries[4]
        outcomes.add((entry.uuid, entry.label))
        write_identity(disk, 4, uuid=NEW_UUID, label="host_2")
        assert read_table(disk).entries[4].uuid == NEW_UUID
    assert outcomes == {(UUID(int=5), "_empty"), (NEW_UUID, "host_2")}


def test_writing_an_identity_takes_six_writes_and_syncs() -> None:
    disk = MemoryDisk(IMAGE)
    write_identity(disk, 4, uuid=NEW_UUID, label="host_2")
    assert disk.power.steps == 6


class ForgetfulDisk(MemoryDisk):
    """Says it has written, and has not."""

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        self.journal.append(("write", offset, len(data)))


def test_a_write_that_did_not_arrive_is_noticed() -> None:
    with pytest.raises(GptError, match="backup partition table did not reach the disk"):
        write_identity(ForgetfulDisk(IMAGE), 4, uuid=NEW_UUID, label="x")


def test_an_unreadable_sector_under_one_copy_is_read_around() -> None:
    disk = MemoryDisk(IMAGE)
    disk.broken_ranges.append(range(SECTOR, 2 * SECTOR))
    assert read_table(disk).entries[0].label == "esp"
    disk.broken_ranges.append(range(len(IMAGE) - SECTOR, len(IMAGE)))
    with pytest.raises(GptError, match="Input/output error"):
        read_table(disk)
