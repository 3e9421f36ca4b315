"""The second way in: the boot loader on the partition of the UKIs, which the firmware starts when the first one ends.

The first loader ends when it is damaged, or when what it chose was refused.  Then the second one starts the entry that
the first would not have chosen: its settings follow the entries after each change of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from partitions.entries import BootEntry, second_choice
from partitions.loader_conf import second_conf
from updater.agent.boot_partition import BootPartition


def follow_entries(boot: BootPartition, entries: Iterable[BootEntry]) -> bool:
    """Let the second loader start the right one of these entries; returns whether that had to be written to the disk.

    Raises:
        SlotError: The partition cannot be changed.
    """
    entry = second_choice(entries)
    if entry is None:
        return False
    conf = second_conf(entry)
    if boot.second_choice() == conf:
        return False
    boot.choose_second(conf)
    return True
