"""Checks the host's own file systems in states that a power cut left: e2fsck on a copy of the partition."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from powercut_disk import ReplayedDisk

from imagebuild.inputs.tools import Access, ToolsTree
from partitions.gpt import GptEntry

_TIMEOUT_S = 300
_CORRECTED = 3


class FileSystemState(Enum):
    """What e2fsck says of a file system."""

    CLEAN = "its journal is replayed, and nothing else is wrong"
    REPAIRED = "e2fsck -y repaired more than its journal"
    LOST = "e2fsck -y could not repair it"


@dataclass
class FileSystems:
    """The host's own ext4 partitions of a disk."""

    disk: ReplayedDisk
    partitions: tuple[GptEntry, ...]
    tools: ToolsTree
    scratch: Path
    found: Counter[FileSystemState] = field(default_factory=Counter)

    def check(self) -> None:
        """Check each, as a boot would."""
        for partition in self.partitions:
            self.found[self._check(partition)] += 1

    def _check(self, partition: GptEntry) -> FileSystemState:
        copy = self.scratch / "file-system"
        start = partition.offset_bytes
        with copy.open("wb") as stream:
            for offset, length in self.disk.data_chunks(range(start, start + partition.size_bytes)):
                stream.seek(offset - start)
                stream.write(self.disk.pread(offset, length))
            stream.truncate(partition.size_bytes)
        try:
            # What the initrd does first; it stops at what it may not repair by itself.
            if self._e2fsck("-p", copy) <= _CORRECTED and self._e2fsck("-fn", copy) == 0:
                return FileSystemState.CLEAN
            repaired = self._e2fsck("-fy", copy) <= _CORRECTED and self._e2fsck("-fn", copy) == 0
            return FileSystemState.REPAIRED if repaired else FileSystemState.LOST
        finally:
            copy.unlink()

    def _e2fsck(self, how: str, copy: Path) -> int:
        words = ["e2fsck", how, str(copy)]
        return self.tools.run(words, Access(write=(self.scratch,)), timeout_s=_TIMEOUT_S, check=False).returncode
