"""The only module of this package that writes."""

from __future__ import annotations

from partitions.blockio import ALIGNMENT, BlockDevice, aligned_buffer
from partitions.errors import FatError
from partitions.fat.change import SectorWrite
from partitions.fat.geometry import SECTOR_BYTES


def write_sector(device: BlockDevice, change: SectorWrite) -> None:
    """Write one sector to the disk past the page cache, durably, and read it back.

    The file system must not be mounted: Linux would keep its own older copy of the sector.  A cut at any moment leaves
    the old sector or the new one.

    Raises:
        FatError: The sector is not what the change was planned for, or the disk does not hold what was written.
        BlockIOError: The device cannot be read or written.
    """
    if change.offset % SECTOR_BYTES or not len(change.before) == len(change.data) == SECTOR_BYTES:
        raise FatError(f"{device.name}: {len(change.data)} bytes at {change.offset} are not one sector")
    if device.pread_uncached(change.offset, SECTOR_BYTES) != change.before:
        raise FatError(f"{device.name}: the sector at {change.offset} was changed meanwhile; nothing was written")
    buffer = aligned_buffer(ALIGNMENT)[:SECTOR_BYTES]
    buffer[:] = change.data
    device.pwrite(change.offset, buffer)
    device.sync()
    if device.pread_uncached(change.offset, SECTOR_BYTES) != change.data:
        raise FatError(f"{device.name}: the sector at {change.offset} did not reach the disk")
