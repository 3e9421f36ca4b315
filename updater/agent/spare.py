"""The spare: one proven UKI on the ESP, so that a host boots although the whole partition of the UKIs is lost.

It is the one that has no guard: while two versions are proven the older one, else the one that runs.  The loader on the
ESP finds it next to what is on the other partition, under the same name, and takes it first of the two; the second
loader sees its own partition only, so that one damaged UKI of the two never stops both.  The spare comes from the copy
that its slot keeps, and is exchanged before an update gives up the slot that it boots.
"""

from __future__ import annotations

from partitions.blockio import BlockDevice
from partitions.entries import SUFFIX, BootEntry
from partitions.errors import UkiError
from partitions.kept_uki import KeptUki
from updater.agent.boot_partition import BootFolder, BootPartition
from updater.agent.copying import copy_uki


def has_spare(esp: BootPartition, entry: BootEntry, kept: KeptUki) -> bool:
    """Whether the ESP has this UKI and no other, by its size and by what it boots."""
    with esp.mounted(writable=False) as folder:
        return _programs(folder) == (entry.file_name,) and _is(folder, entry.file_name, kept)


def keep_spare(esp: BootPartition, entry: BootEntry, partition: BlockDevice, kept: KeptUki) -> bool:
    """Write the spare to the ESP, durably, and remove every other one; returns whether something had to be done.

    Args:
        esp: The partition.
        entry: The spare's name, without a counter.
        partition: The data partition of its slot.
        kept: The copy there, which was compared with its record.

    Raises:
        RefusedError: The disk does not hold what was written.
        NoSpaceError: There is no room for it.
    """
    if has_spare(esp, entry, kept):
        return False
    with esp.mounted(writable=False) as folder:
        there = entry.file_name in folder.names() and _is(folder, entry.file_name, kept)
        leftovers = [name for name in folder.names() if name == entry.temporary_name]
        leftovers += [entry.file_name] if entry.file_name in folder.names() and not there else []
    if leftovers:
        esp.remove(*leftovers)
    if not there:
        with esp.mounted(writable=True) as folder:
            copy_uki(partition, kept, folder, entry.temporary_name)
        esp.rename(entry.temporary_name, entry.file_name)
    remove_spares(esp, but=entry)
    return True


def remove_spares(esp: BootPartition, *, but: BootEntry) -> None:
    """Remove from the disk every UKI on the ESP except one: what it boots is going to be written over."""
    with esp.mounted(writable=False) as folder:
        others = [name for name in _programs(folder) if name != but.file_name]
    if others:
        esp.remove(*others)


def _programs(folder: BootFolder) -> tuple[str, ...]:
    return tuple(name for name in folder.names() if name.lower().endswith(SUFFIX))


def _is(folder: BootFolder, name: str, kept: KeptUki) -> bool:
    try:
        return folder.size_bytes(name) == kept.size_bytes and folder.uki(name).root_hash == kept.root_hash
    except (UkiError, OSError):
        return False
