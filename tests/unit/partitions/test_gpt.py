"""Reading and writing partition tables."""

from __future__ import annotations

import struct
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.disk import read_table
from partitions.errors import GptError
from partitions.gpt import Copy, GptTable
from tests.fakes.gpt_disk import DISK_UUID, SECTOR, PartitionSpec, disk_image, twin_parts, with_header_field
from tests.fakes.memory_disk import MemoryDisk

IMAGE = disk_image(twin_parts())
LAST_LBA = len(IMAGE) // SECTOR - 1
NEW_UUID = UUID("12345678-9abc-4def-8123-456789abcdef")


def table_of(image: bytes) -> GptTable:
    return read_table(MemoryDisk(image))


def written(image: bytes, table: GptTable) -> bytes:
    changed = bytearray(image)
    for offset, data in table.writes():
        changed[offset : offset + len(data)] = data
    return bytes(changed)


def zapped(image: bytes, *lbas: int) -> bytes:
    changed = bytearray(image)
    for lba in lbas:
        changed[lba * SECTOR + 60] ^= 1
    return bytes(changed)


def test_table_says_what_is_on_the_disk() -> None:
    table = table_of(IMAGE)
    assert table.disk_uuid == DISK_UUID
    assert table.damaged is None
    assert [entry.label for entry in table.entries if entry.used] == [part.label for part in twin_parts()]
    assert [entry.uuid for entry in table.entries[:8]] == [part.uuid for part in twin_parts()]
    first = table.entries[0]
    assert (first.offset_bytes, first.size_bytes) == (40 * SECTOR, 64 * SECTOR)
    assert table.entries[8].size_bytes == 0


def test_writing_an_unchanged_table_changes_nothing() -> None:
    assert written(IMAGE, table_of(IMAGE)) == IMAGE


def test_written_identity_is_read_back_from_either_copy() -> None:
    changed = written(IMAGE, table_of(IMAGE).with_entry(4, uuid=NEW_UUID, label="host_1.0.1", attributes=1 << 60))
    for image in (changed, zapped(changed, 1), zapped(changed, LAST_LBA)):
        entry = table_of(image).entries[4]
        assert (entry.uuid, entry.label, entry.attributes) == (NEW_UUID, "host_1.0.1", 1 << 60)


def test_a_change_leaves_every_other_byte_alone() -> None:
    changed = written(IMAGE, table_of(IMAGE).with_entry(4, label="x"))
    assert changed[:SECTOR] == IMAGE[:SECTOR]
    assert changed[34 * SECTOR : -33 * SECTOR] == IMAGE[34 * SECTOR : -33 * SECTOR]
    table, old = table_of(changed), table_of(IMAGE)
    assert [*table.entries[:4], *table.entries[5:]] == [*old.entries[:4], *old.entries[5:]]


@pytest.mark.parametrize(
    ("broken", "damaged"), [(1, Copy.PRIMARY), (2, Copy.PRIMARY), (LAST_LBA, Copy.BACKUP), (LAST_LBA - 32, Copy.BACKUP)]
)
def test_one_damaged_copy_is_read_around_and_repaired(broken: int, damaged: Copy) -> None:
    image = zapped(IMAGE, broken)
    table = table_of(image)
    assert table.damaged is damaged
    assert table.write_order[0] is damaged
    assert written(image, table) == IMAGE


def test_backup_is_written_first_when_both_are_whole() -> None:
    assert table_of(IMAGE).write_order == (Copy.BACKUP, Copy.PRIMARY)


def test_entries_are_written_before_their_header() -> None:
    offsets = [offset // SECTOR for offset, _ in table_of(IMAGE).writes()]
    assert offsets == [LAST_LBA - 32, LAST_LBA, 2, 1]


def test_two_damaged_copies_are_refused() -> None:
    with pytest.raises(GptError, match=r"both copies of the partition table are damaged.*primary.*backup"):
        table_of(zapped(IMAGE, 1, LAST_LBA))


def test_whole_primary_wins_over_a_differing_backup() -> None:
    newer = written(IMAGE, table_of(IMAGE).with_entry(0, label="new"))
    mixed = newer[: 34 * SECTOR] + IMAGE[34 * SECTOR :]
    assert table_of(mixed).entries[0].label == "new"


def test_empty_disk_has_no_table() -> None:
    with pytest.raises(GptError, match="no signature"):
        table_of(bytes(100 * SECTOR))


@pytest.mark.parametrize("size", [0, 1, SECTOR, 2 * SECTOR])
def test_disk_too_small_for_a_table_is_refused(size: int) -> None:
    with pytest.raises(GptError):
        table_of(IMAGE[:size])


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (8, struct.pack("<I", 0x00020000)),
        (12, struct.pack("<I", 91)),
        (12, struct.pack("<I", 513)),
        (24, struct.pack("<Q", 2)),
        (32, struct.pack("<Q", 1 << 60)),
        (32, struct.pack("<Q", 40)),
        (40, struct.pack("<Q", 1 << 60)),
        (40, struct.pack("<Q", 3)),
        (48, struct.pack("<Q", 1 << 60)),
        (72, struct.pack("<Q", 1)),
        (72, struct.pack("<Q", 1 << 62)),
        (80, struct.pack("<I", 0)),
        (80, struct.pack("<I", 1 << 31)),
        (84, struct.pack("<I", 64)),
        (84, struct.pack("<I", 256)),
        (88, struct.pack("<I", 0)),
    ],
)
def test_header_with_a_right_checksum_and_wrong_numbers_is_refused(offset: int, value: bytes) -> None:
    image = with_header_field(zapped(IMAGE, LAST_LBA), lba=1, offset=offset, value=value)
    with pytest.raises(GptError):
        table_of(image)


def test_overlapping_partitions_are_refused() -> None:
    parts = twin_parts()
    parts[1] = replace(parts[1], first_lba=parts[0].last_lba)
    with pytest.raises(GptError, match="overlap"):
        table_of(disk_image(parts))


def test_partition_outside_the_usable_sectors_is_refused() -> None:
    parts = twin_parts()
    parts[0] = replace(parts[0], first_lba=10)
    with pytest.raises(GptError, match="usable are"):
        table_of(disk_image(parts))


@pytest.mark.parametrize("index", [-1, 8, 127, 128, 1000])
def test_changing_a_partition_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(GptError, match="there is no partition"):
        table_of(IMAGE).with_entry(index, label="x")


@pytest.mark.parametrize("label", ["a" * 37, "😀" * 19, "a\0b"])
def test_label_that_does_not_fit_is_refused(label: str) -> None:
    with pytest.raises(GptError, match="does not fit"):
        table_of(IMAGE).with_entry(0, label=label)


def test_attributes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GptError, match="64 bits"):
        table_of(IMAGE).with_entry(0, attributes=1 << 64)


def test_foreign_label_with_half_a_character_survives() -> None:
    lone = bytearray(IMAGE)
    table = table_of(IMAGE).with_entry(6, label="\ud83d")
    lone[:] = written(bytes(lone), table)
    assert written(bytes(lone), table_of(bytes(lone)).with_entry(0, label="esp")) == bytes(lone)


@given(
    index=st.integers(0, 6),
    uuid=st.uuids(),
    label=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=18),
    attributes=st.integers(0, (1 << 64) - 1),
)
def test_any_identity_survives_the_disk(index: int, uuid: UUID, label: str, attributes: int) -> None:
    table = table_of(IMAGE).with_entry(index, uuid=uuid, label=label, attributes=attributes)
    assert table_of(written(IMAGE, table)) == table


@given(st.binary(max_size=200), st.integers(0, 34 * SECTOR))
def test_any_damage_to_the_primary_copy_leaves_the_partitions_readable(noise: bytes, offset: int) -> None:
    image = bytearray(IMAGE)
    end = min(offset + len(noise), 34 * SECTOR)
    image[offset:end] = noise[: end - offset]
    assert table_of(bytes(image)).entries == table_of(IMAGE).entries


def test_free_places_between_partitions_keep_their_numbers() -> None:
    gap = PartitionSpec(UUID(int=0), UUID(int=0), 0, 0)
    parts = twin_parts()
    table = table_of(disk_image([parts[0], gap, *parts[1:]]))
    assert not table.entries[1].used
    assert table.entries[2].label == "xbootldr"
