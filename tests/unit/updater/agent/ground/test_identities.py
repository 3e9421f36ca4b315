"""New identities for the disk of a new host, in one change of its table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from partitions.disk import find_slots, read_table
from partitions.errors import GptError
from partitions.gpt import Copy, GptTable
from partitions.layout import BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID, root_types
from tests.fakes.gpt_disk import DISK_UUID, SECTOR, disk_image, twin_parts
from tests.fakes.memory_disk import MemoryDisk, Power, PowerCut
from updater.agent.ground.identities import Settled, give_identities

OLD = {DISK_UUID, BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID}


def as_built() -> bytes:
    """A disk as a build makes it."""
    parts = twin_parts()
    parts[0] = replace(parts[0], uuid=BUILT_ESP_UUID)
    parts[1] = replace(parts[1], uuid=BUILT_XBOOTLDR_UUID)
    return disk_image(parts)


def numbered(start: int = 100) -> Iterator[UUID]:
    return (UUID(int=number) for number in itertools.count(start))


def identities(table: GptTable) -> tuple[UUID, UUID, UUID]:
    return table.disk_uuid, table.entries[0].uuid, table.entries[1].uuid


def give(disk: MemoryDisk, start: int = 100) -> Settled | None:
    made = numbered(start)
    return give_identities(disk, lambda: next(made))


def test_disk_esp_and_xbootldr_get_new_ones_and_nothing_else_changes() -> None:
    disk = MemoryDisk(as_built())
    before = read_table(disk)
    assert give(disk) is Settled.IDENTITIES
    after = read_table(disk)
    assert identities(after) == (UUID(int=100), UUID(int=101), UUID(int=102))
    assert after.entries[2:] == before.entries[2:]
    assert [replace(entry, uuid=UUID(int=0)) for entry in after.entries] == [
        replace(entry, uuid=UUID(int=0)) for entry in before.entries
    ]
    assert after.damaged is None
    assert find_slots(after, root_types("x86-64")).esp.label == "esp"


def test_a_disk_that_has_its_own_is_not_written() -> None:
    disk = MemoryDisk(as_built())
    give(disk)
    content = disk.content
    assert give(disk, 500) is None
    assert disk.content == content


@pytest.mark.parametrize("index", [0, 1])
def test_half_of_the_built_ones_is_enough(index: int) -> None:
    parts = twin_parts()
    parts[index] = replace(parts[index], uuid=(BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID)[index])
    disk = MemoryDisk(disk_image(parts))
    assert give(disk) is Settled.IDENTITIES
    assert read_table(disk).entries[index].uuid not in OLD


def test_a_cut_at_any_write_leaves_a_readable_table_and_the_next_boot_goes_on() -> None:
    for steps in itertools.count():
        power = Power()
        disk = MemoryDisk(as_built(), power=power)
        power.cut_after(steps)
        try:
            give(disk)
        except PowerCut:
            disk.cut()
        else:
            break
        power.restore()
        found = identities(read_table(disk))
        assert set(found) == OLD or not set(found) & OLD
        give(disk, 500)
        table = read_table(disk)
        assert table.damaged is None
        assert not set(identities(table)) & OLD
        assert give(disk, 900) is None
    assert steps > 5


@pytest.mark.parametrize("copy", Copy)
def test_a_torn_copy_of_the_table_is_written_again(copy: Copy) -> None:
    image = bytearray(disk_image(twin_parts()))
    at = SECTOR if copy is Copy.PRIMARY else len(image) - SECTOR
    whole = bytes(image)
    image[at : at + SECTOR] = bytes(SECTOR)
    disk = MemoryDisk(bytes(image))
    assert read_table(disk).damaged is copy
    assert give(disk) is Settled.REPAIRED
    assert disk.content == whole


def test_a_disk_without_a_table_is_an_error() -> None:
    with pytest.raises(GptError):
        give(MemoryDisk(bytes(1 << 20)))
