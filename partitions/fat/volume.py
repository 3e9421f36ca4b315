"""A FAT file system on a device: its folders and the content of its files.

Everything is read past the page cache, so the file system must not be mounted for writing.  Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from partitions.blockio import CHUNK_BYTES, BlockDevice
from partitions.errors import FatError
from partitions.fat.change import SectorWrite, plan_replace
from partitions.fat.directory import MOST_FOLDER_BYTES, FatEntry, Folder
from partitions.fat.geometry import BACKUP_SECTOR, SECTOR_BYTES, SECTOR_SIZES, FatGeometry, FatKind, parse_boot_sector
from partitions.fat.table import ClusterTable


@dataclass(frozen=True)
class Extent:
    """Bytes in a row on the device."""

    offset: int
    length: int


class FatVolume:
    """A file system as it was when it was opened; the table of clusters is read once, then."""

    def __init__(self, device: BlockDevice, geometry: FatGeometry, table: ClusterTable) -> None:
        self._device = device
        self.geometry = geometry
        self.table = table

    @classmethod
    def open(cls, device: BlockDevice) -> FatVolume:
        """Read the boot sector (FAT32: the backup, when the first one is damaged) and the table of clusters.

        Raises:
            FatError: It is not FAT16 or FAT32, or damaged.
            BlockIOError: The device cannot be read.
        """
        geometry = read_geometry(device)
        start = geometry.table_offset + geometry.active_table * geometry.table_bytes
        return cls(device, geometry, ClusterTable(geometry, device.pread_uncached(start, geometry.table_bytes)))

    @property
    def name(self) -> str:
        """The device's name in messages."""
        return self._device.name

    def root(self) -> Folder:
        """The root folder.

        Raises:
            FatError: It is damaged.
            BlockIOError: The device cannot be read.
        """
        geometry = self.geometry
        if geometry.kind is FatKind.FAT32:
            return self._folder_at("", geometry.root_cluster)
        return self._read_folder("", (Extent(geometry.root_offset, geometry.root_bytes),), room_to_grow=False)

    def folder(self, path: str) -> Folder:
        """The folder at a path such as `EFI/Linux`, in any case; "" is the root.

        Raises:
            FatError: There is no such folder, or it is damaged.
            BlockIOError: The device cannot be read.
        """
        folder = self.root()
        for part in PurePosixPath(path).parts:
            folder = self.subfolder(folder, folder.require(part))
        return folder

    def subfolder(self, folder: Folder, entry: FatEntry) -> Folder:
        """The folder that an entry of another one leads to.

        Raises:
            FatError: The entry is a file, or the folder is damaged.
            BlockIOError: The device cannot be read.
        """
        path = f"{folder.path}/{entry.name}".lstrip("/")
        if not entry.is_folder:
            raise FatError(f"{self.name}: {path} is not a folder")
        return self._folder_at(path, entry.first_cluster)

    def find(self, path: str) -> FatEntry | None:
        """The file or folder at a path such as `loader/loader.conf`; None when its folder has no such entry.

        Raises:
            FatError: A folder on the way is missing or damaged.
            BlockIOError: The device cannot be read.
        """
        place = PurePosixPath(path)
        return self.folder(str(place.parent) if place.parent.name else "").find(place.name)

    def extents(self, entry: FatEntry) -> tuple[Extent, ...]:
        """Where the bytes of a file are on the device, in order and without what is behind its end.

        Raises:
            FatError: Its chain is too short or damaged.
        """
        found: list[Extent] = []
        left = entry.size_bytes
        if left and entry.first_cluster:
            for cluster in self.table.chain(entry.first_cluster):
                offset, length = self.geometry.cluster_offset(cluster), min(left, self.geometry.cluster_bytes)
                if found and found[-1].offset + found[-1].length == offset:
                    found[-1] = Extent(found[-1].offset, found[-1].length + length)
                else:
                    found.append(Extent(offset, length))
                left -= length
                if not left:
                    break
        if left:
            raise FatError(f"{self.name}: {entry.name} lacks {left} of its {entry.size_bytes} bytes")
        return tuple(found)

    def chunks(self, entry: FatEntry) -> Iterator[bytes]:
        """The content of a file in pieces.

        Raises:
            FatError: Its chain is too short or damaged.
            BlockIOError: The device cannot be read.
        """
        for extent in self.extents(entry):
            for start in range(0, extent.length, CHUNK_BYTES):
                yield self._device.pread_uncached(extent.offset + start, min(CHUNK_BYTES, extent.length - start))

    def read(self, entry: FatEntry, offset: int = 0, length: int | None = None) -> bytes:
        """The content of a file, or the part of it from `offset` on, shorter where the file ends.

        Raises:
            FatError: Its chain is too short or damaged.
            BlockIOError: The device cannot be read.
        """
        end = entry.size_bytes if length is None else min(entry.size_bytes, offset + length)
        data = bytearray()
        at = 0
        for extent in self.extents(entry):
            start, stop = max(offset, at), min(end, at + extent.length)
            if start < stop:
                data += self._device.pread_uncached(extent.offset + start - at, stop - start)
            at += extent.length
        return bytes(data)

    def plan_replace(self, path: str, data: bytes) -> SectorWrite:
        """The one write that gives the file at a path, of exactly 512 bytes, other content of the same length.

        Raises:
            FatError: There is no such file, or it or the content is not 512 bytes long.
            BlockIOError: The device cannot be read.
        """
        entry = self.find(path)
        if entry is None or entry.size_bytes != SECTOR_BYTES:
            size = "does not exist" if entry is None else f"has {entry.size_bytes} bytes"
            raise FatError(f"{self.name}: {path} {size}, so one write cannot replace it")
        (extent,) = self.extents(entry)
        return plan_replace(entry, extent.offset, self.read(entry), data)

    def _folder_at(self, path: str, first_cluster: int) -> Folder:
        extents = []
        for cluster in self.table.chain(first_cluster):
            extents.append(Extent(self.geometry.cluster_offset(cluster), self.geometry.cluster_bytes))
            if len(extents) * self.geometry.cluster_bytes > MOST_FOLDER_BYTES:
                raise FatError(f"{self.name}: the folder {path or '/'} has more than {MOST_FOLDER_BYTES} bytes")
        return self._read_folder(path, tuple(extents), room_to_grow=True)

    def _read_folder(self, path: str, extents: tuple[Extent, ...], *, room_to_grow: bool) -> Folder:
        raw = b"".join(self._device.pread_uncached(each.offset, each.length) for each in extents)
        sectors = tuple(
            offset for each in extents for offset in range(each.offset, each.offset + each.length, SECTOR_BYTES)
        )
        return Folder(path, raw, sectors, room_to_grow)


def read_geometry(device: BlockDevice) -> FatGeometry:
    """Read the boot sector, or FAT32's backup of it when the first one is damaged.

    Raises:
        FatError: Neither is one.
        BlockIOError: The device cannot be read.
    """
    size_bytes = device.size_bytes
    if size_bytes < SECTOR_BYTES:
        raise FatError(f"{device.name}: {size_bytes} bytes are not a file system")
    try:
        return parse_boot_sector(device.pread_uncached(0, SECTOR_BYTES), size_bytes=size_bytes)
    except FatError as error:
        backup = _backup(device)
        if backup is None:
            raise FatError(f"{device.name}: {error}") from error
        return parse_boot_sector(backup, size_bytes=size_bytes, from_backup=True)


def plan_boot_sector(device: BlockDevice) -> SectorWrite | None:
    """The one write that makes a damaged boot sector what its backup is; None when it is not damaged or has no backup.

    Firmware never looks at the backup, and Linux does not mount without the first one.

    Raises:
        BlockIOError: The device cannot be read.
    """
    before = device.pread_uncached(0, SECTOR_BYTES)
    with suppress(FatError):
        parse_boot_sector(before, size_bytes=device.size_bytes)
        return None
    backup = _backup(device)
    return None if backup is None else SectorWrite(0, before, backup)


def _backup(device: BlockDevice) -> bytes | None:
    for sector_bytes in SECTOR_SIZES:
        offset = BACKUP_SECTOR * sector_bytes
        if offset + SECTOR_BYTES > device.size_bytes:
            return None
        sector = device.pread_uncached(offset, SECTOR_BYTES)
        with suppress(FatError):
            found = parse_boot_sector(sector, size_bytes=device.size_bytes, from_backup=True)
            if found.kind is FatKind.FAT32 and found.sector_bytes == sector_bytes:
                return sector
    return None
