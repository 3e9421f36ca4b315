"""Gives the disk of a new host identities of its own; all disks of a build begin with the same ones.

At the first boot the partition table gets new random identifiers for the disk, ESP and XBOOTLDR (`state` and `var` were
made with theirs), all in one change of the table.  That a disk still has those it was built with is read from the disk
itself, so a cut of power leaves either, and the next boot goes on.  The slots keep theirs: they name the content.

The firmware's word on the partition it started from, and the kernel's and udev's view of these three, are those of the
moment before until the next boot; nothing finds the running system's disk by them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from uuid import UUID

from partitions.blockio import BlockDevice
from partitions.disk import read_table, write_table
from partitions.layout import BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID

_BUILT = (BUILT_ESP_UUID, BUILT_XBOOTLDR_UUID)


class Settled(Enum):
    """What was done to a partition table."""

    IDENTITIES = "the disk has identities of its own now"
    REPAIRED = "a damaged copy of the partition table was written again"

    def __str__(self) -> str:
        return self.value


def give_identities(disk: BlockDevice, free_uuid: Callable[[], UUID]) -> Settled | None:
    """Write new identities to a disk that has those of its build, or the other copy of a damaged table.

    Raises:
        GptError: Neither copy of the table is readable, or the disk does not hold what was written.
        BlockIOError: The disk cannot be read or written.
    """
    table = read_table(disk)
    built = [index for index, entry in enumerate(table.entries) if entry.used and entry.uuid in _BUILT]
    if not built and table.damaged is None:
        return None
    if built:
        table = table.with_disk_uuid(free_uuid())
    for index in built:
        table = table.with_entry(index, uuid=free_uuid())
    write_table(disk, table)
    return Settled.IDENTITIES if built else Settled.REPAIRED
