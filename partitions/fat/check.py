"""Judges a whole file system: what an interrupted change left behind, and what is damaged.

The work is bounded by the number of clusters: a chain is followed only until it meets a cluster of another one.
Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from partitions.blockio import BlockDevice
from partitions.errors import FatError
from partitions.fat.directory import FatEntry, Folder
from partitions.fat.geometry import FatKind
from partitions.fat.volume import FatVolume


class FatFlaw(Enum):
    """What can be wrong with a file system."""

    LOST_CLUSTERS = "clusters that belong to no file"
    TABLES_DIFFER = "the copies of the table of clusters differ"
    ORPHAN_SLOTS = "slots of a long name that belong to no entry"
    LONG_CHAIN = "more clusters than the size needs"
    NOT_CLEAN = "it was not unmounted"
    BACKUP_USED = "the first boot sector is damaged"
    SHORT_CHAIN = "fewer clusters than the size needs"
    BROKEN_CHAIN = "a chain that leaves the file system, comes back to itself or goes through a free cluster"
    CROSS_LINKED = "a cluster that belongs to two files"
    DOUBLED_NAME = "a name that two entries answer to"
    BEHIND_END = "entries behind the end of a folder"
    BAD_FOLDER = "a folder that cannot be read"

    @property
    def harmless(self) -> bool:
        """Whether every file is still read whole, by its name, by every reader."""
        return self in _HARMLESS


_HARMLESS = frozenset(
    {FatFlaw.LOST_CLUSTERS, FatFlaw.TABLES_DIFFER, FatFlaw.ORPHAN_SLOTS, FatFlaw.LONG_CHAIN, FatFlaw.NOT_CLEAN}
)


@dataclass(frozen=True)
class FatFinding:
    """One flaw: where (a path; "" for the file system) and what exactly."""

    flaw: FatFlaw
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path or '/'}: {self.flaw.value} ({self.detail})"


@dataclass
class _Judgement:
    """What the judgement has seen so far."""

    volume: FatVolume
    owners: dict[int, str] = field(default_factory=dict)
    findings: list[FatFinding] = field(default_factory=list)

    def found(self, flaw: FatFlaw, path: str, detail: object) -> None:
        self.findings.append(FatFinding(flaw, path, str(detail)))


def judge(device: BlockDevice) -> tuple[FatFinding, ...]:
    """Every flaw of the file system on a device; empty when there is none.

    Raises:
        FatError: It cannot be read at all: no boot sector, no table, no root folder.
        BlockIOError: The device cannot be read.
    """
    volume = FatVolume.open(device)
    seen = _Judgement(volume)
    if volume.geometry.from_backup:
        seen.found(FatFlaw.BACKUP_USED, "", "the backup is whole")
    if volume.geometry.dirty:
        seen.found(FatFlaw.NOT_CLEAN, "", "the mark in its boot sector is set")
    _judge_copies(seen, device)
    if volume.geometry.kind is FatKind.FAT32:
        _claim(seen, "", volume.geometry.root_cluster)
    waiting = [volume.root()]
    while waiting:
        folder = waiting.pop()
        _judge_folder(seen, folder)
        waiting += _judge_entries(seen, folder)
    lost = sum(1 for cluster in volume.table.used() if cluster not in seen.owners)
    if lost:
        seen.found(FatFlaw.LOST_CLUSTERS, "", lost)
    return tuple(seen.findings)


def _judge_copies(seen: _Judgement, device: BlockDevice) -> None:
    geometry = seen.volume.geometry
    copies = {
        device.pread_uncached(geometry.table_offset + copy * geometry.table_bytes, geometry.table_bytes)
        for copy in range(geometry.table_copies)
    }
    if len(copies) > 1:
        seen.found(FatFlaw.TABLES_DIFFER, "", f"{geometry.table_copies} copies")


def _judge_folder(seen: _Judgement, folder: Folder) -> None:
    if folder.orphans:
        seen.found(FatFlaw.ORPHAN_SLOTS, folder.path, len(folder.orphans))
    if folder.behind_end:
        seen.found(FatFlaw.BEHIND_END, folder.path, len(folder.behind_end))
    for name in folder.doubled:
        seen.found(FatFlaw.DOUBLED_NAME, folder.path, name)


def _judge_entries(seen: _Judgement, folder: Folder) -> list[Folder]:
    """The subfolders that can be read."""
    found = []
    for entry in folder.entries:
        path = f"{folder.path}/{entry.name}".lstrip("/")
        if entry.is_folder:
            if _claim(seen, path, entry.first_cluster):
                try:
                    found.append(seen.volume.subfolder(folder, entry))
                except FatError as error:
                    seen.found(FatFlaw.BAD_FOLDER, path, error)
        else:
            _judge_file(seen, path, entry)
    return found


def _judge_file(seen: _Judgement, path: str, entry: FatEntry) -> None:
    size = seen.volume.geometry.cluster_bytes
    needed = -(-entry.size_bytes // size)
    if not entry.first_cluster:
        if needed:
            seen.found(FatFlaw.SHORT_CHAIN, path, f"0 of {needed}")
        return
    clusters = _claim(seen, path, entry.first_cluster)
    if clusters is not None and clusters != needed:
        flaw = FatFlaw.SHORT_CHAIN if clusters < needed else FatFlaw.LONG_CHAIN
        seen.found(flaw, path, f"{clusters} of {needed}")


def _claim(seen: _Judgement, path: str, first: int) -> int | None:
    """Note the clusters of a chain as those of this path; their number, or None when the chain is damaged."""
    count = 0
    try:
        for cluster in seen.volume.table.chain(first):
            if cluster in seen.owners:
                seen.found(FatFlaw.CROSS_LINKED, path, f"cluster {cluster}, also {seen.owners[cluster] or '/'}")
                return None
            seen.owners[cluster] = path
            count += 1
    except FatError as error:
        seen.found(FatFlaw.BROKEN_CHAIN, path, error)
        return None
    return count
