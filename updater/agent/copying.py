"""Writes a UKI to a boot partition from the copy that its slot keeps, and reads it back."""

from __future__ import annotations

from partitions import kept_uki
from partitions.blockio import BlockDevice
from partitions.kept_uki import KeptUki
from updater.agent.boot_partition import BootFolder
from updater.errors import NoSpaceError, RefusedError


def copy_uki(partition: BlockDevice, kept: KeptUki, folder: BootFolder, name: str) -> None:
    """Write the UKI that a slot keeps to the disk as a new file, durably, and read it back past the cache.

    Raises:
        NoSpaceError: There is no room for it.
        RefusedError: The disk does not hold what was written.
    """
    if folder.free_bytes() < kept.size_bytes:
        raise NoSpaceError(f"{name} needs {kept.size_bytes} bytes, and {folder.free_bytes()} are free")
    with folder.create(name) as sink:
        for chunk in kept_uki.chunks(partition, kept):
            sink.write(chunk)
    folder.sync()
    found = folder.sha256_uncached(name)
    if found != kept.sha256:
        raise RefusedError(f"boot entry {name}: the disk holds {found}, signed is {kept.sha256}")
