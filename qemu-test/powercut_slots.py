"""What a release has on the disk, and whether a slot holds it: compared with what was signed, block by block.

A slot is verity-whole for a root hash exactly when its data and its tree are those that the root hash was made from.
They are known here, so a write costs a comparison of what it wrote and not a hash of the whole slot.  `Reference.of`
checks once that they are what the root hash says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from disks import map_of
from powercut_disk import CHUNK, ReplayedDisk
from powercut_log import PowercutError

from bedrock.digest import bytes_sha256
from partitions import verity
from partitions.blockio import BlockDevice, DeviceWindow, FileBlockDevice
from partitions.disk import SlotPartitions
from partitions.entries import ENTRIES_FOLDER
from partitions.fat.volume import FatVolume
from partitions.hashtree import BLOCK_SIZE
from partitions.layout import SlotIdentity, identity_of
from updater.documents.release import parse_release


@dataclass(frozen=True, eq=False)
class Reference:
    """The bytes of a signed release: root file system, tree, UKI."""

    version: str
    root_hash: str
    root: bytes
    tree: bytes
    uki: bytes

    @property
    def identity(self) -> SlotIdentity:
        """The UUIDs of a slot that holds it."""
        return identity_of(self.root_hash)

    @classmethod
    def of(cls, build: Path) -> Reference:
        """Read a build's bytes from its disk and check them.

        Raises:
            PowercutError: They are not those that its release names.
            VerityError: Data and tree do not fit the root hash.
        """
        release = parse_release((build / "release.json").read_bytes(), source="release.json")
        artifacts, where = release.artifacts, map_of(build / "disk.raw")
        with FileBlockDevice.open(build / "disk.raw", writable=False) as disk:
            data = DeviceWindow(disk, where.a.data.offset_bytes, where.a.data.size_bytes)
            tree = DeviceWindow(disk, where.a.verity.offset_bytes, where.a.verity.size_bytes)
            verity.verify(data, tree, root_hash=release.root_hash)
            boot = FatVolume.open(DeviceWindow(disk, where.xbootldr.offset_bytes, where.xbootldr.size_bytes))
            (entry,) = boot.folder(ENTRIES_FOLDER).entries
            uki = boot.read(entry)
            if bytes_sha256(uki) != artifacts.uki.sha256:
                raise PowercutError(f"{build}: the UKI on the disk is not the one of the release")
            return cls(
                str(release.version),
                release.root_hash,
                data.pread(0, artifacts.root.size_bytes),
                tree.pread(0, artifacts.verity.size_bytes),
                uki,
            )


class SlotContent:
    """Which blocks of a slot differ from those of each release; it watches the disk."""

    def __init__(self, disk: ReplayedDisk, slot: SlotPartitions, references: tuple[Reference, ...]) -> None:
        self._disk = disk
        self._parts = (
            (slot.data.offset_bytes, {each: each.root for each in references}),
            (slot.verity.offset_bytes, {each: each.tree for each in references}),
        )
        self._differing: dict[Reference, set[int]] = {each: set() for each in references}
        for start, contents in self._parts:
            for at in range(0, max(map(len, contents.values()), default=0), CHUNK):
                self.changed(start + at, CHUNK)
        disk.watchers.append(self.changed)

    def holds(self, reference: Reference) -> bool:
        """Whether the slot holds this release, whole."""
        return not self._differing[reference]

    def changed(self, offset: int, length: int) -> None:
        """Look again at the blocks that a write touched."""
        for start, contents in self._parts:
            for reference, wanted in contents.items():
                first = max(offset - start, 0) // BLOCK_SIZE * BLOCK_SIZE
                stop = min(-(-(offset + length - start) // BLOCK_SIZE) * BLOCK_SIZE, len(wanted))
                if first < stop:
                    self._compare(self._differing[reference], start, wanted, range(first, stop))

    def _compare(self, differing: set[int], start: int, wanted: bytes, part: range) -> None:
        found = self._disk.pread(start + part.start, len(part))
        blocks = range((start + part.start) // BLOCK_SIZE, -(-(start + part.stop) // BLOCK_SIZE))
        if found == wanted[part.start : part.stop]:
            if differing:
                differing.difference_update(blocks)
            return
        for place, block in zip(range(0, len(part), BLOCK_SIZE), blocks, strict=True):
            at = part.start + place
            if found[place : place + BLOCK_SIZE] == wanted[at : min(at + BLOCK_SIZE, part.stop)]:
                differing.discard(block)
            else:
                differing.add(block)


def whole_by_hashing(disk: BlockDevice, slot: SlotPartitions, reference: Reference) -> None:
    """The long way to `SlotContent.holds`, to check it by.

    Raises:
        VerityError: The slot does not hold the release.
    """
    data = DeviceWindow(disk, slot.data.offset_bytes, slot.data.size_bytes)
    tree = DeviceWindow(disk, slot.verity.offset_bytes, slot.verity.size_bytes)
    verity.verify(data, tree, root_hash=reference.root_hash)
