"""Looking into a disk image, and changing it, while no machine runs on it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from imagebuild.inputs.tools import Access, ToolsTree
from partitions.blockio import FileBlockDevice
from partitions.disk import DiskMap, find_slots, read_table
from partitions.entries import ENTRIES_FOLDER
from partitions.gpt import GptEntry
from partitions.layout import ROOT_TYPES

_TOOL_TIMEOUT_S = 60
BLOCK = 4096


def map_of(disk: Path) -> DiskMap:
    """Where the partitions of a disk are."""
    with closing(FileBlockDevice.open(disk, writable=False)) as device:
        return find_slots(read_table(device), ROOT_TYPES["x86-64"])


def flip_bit(path: Path, offset: int) -> None:
    """Flip the lowest bit of a byte (writes to the disk)."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        value = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([value ^ 1]))


class BootPartition:
    """The FAT file system of one of a disk's boot partitions, by way of mtools."""

    def __init__(self, disk: Path, part: GptEntry, tools: ToolsTree) -> None:
        self._disk = disk
        self._tools = tools
        self._image = f"{disk}@@{part.offset_bytes}"

    def names(self) -> list[str]:
        """The boot entries."""
        done = self._mtools("mdir", "-b", "-i", self._image, f"::{ENTRIES_FOLDER}")
        return [line.rsplit("/", 1)[-1] for line in done.splitlines() if line.strip()]

    def get(self, name: str, target: Path) -> None:
        """Copy an entry out of the partition."""
        self._mtools("mcopy", "-n", "-i", self._image, f"::{ENTRIES_FOLDER}/{name}", str(target))

    def put(self, source: Path, name: str) -> None:
        """Copy a file over an entry of the partition (writes to the disk)."""
        self._mtools("mcopy", "-o", "-i", self._image, str(source), f"::{ENTRIES_FOLDER}/{name}")

    def _mtools(self, *words: str) -> str:
        access = Access(write=(self._disk.parent,))
        return self._tools.run(list(words), access, timeout_s=_TOOL_TIMEOUT_S).stdout
