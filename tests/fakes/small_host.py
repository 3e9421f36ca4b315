"""A small disk of a Twinhull host with real file systems, trees and programs, and a note of every write to it.

The boot partitions are FAT16 of some megabytes, the slots a few blocks.  Slot A holds the release 1, slot B nothing.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from powercut_disk import Piece
from powercut_slots import Reference

from partitions.disk import DiskMap, find_slots, read_table, write_identity
from partitions.layout import ROOT_TYPES, WRITTEN_ATTRIBUTES, Slot, identity_of
from partitions.verity import build_tree
from tests.fakes.fat_image import FatImage
from tests.fakes.gpt_disk import disk_image, twin_parts
from tests.fakes.memory_disk import MemoryDisk

LOADER = b"MZ a signed loader"
BLESSED = "host_1.efi"
TRIAL = "host_2+3-0.efi"
STAGED = f"{TRIAL}.new"
BLOCKS = 24
_TREE = UUID(int=99)
_BOOT_SECTORS = 4400


def uki(version: str, *, filler: int = 1500) -> bytes:
    """A program with an os-release in it."""
    os_release = f'NAME="Host"\nIMAGE_ID=host\nIMAGE_VERSION={version}\n'.encode()
    sections = ((b".osrel", os_release), (b".linux", version.encode() * filler))
    header = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40))
    header += struct.pack("<4s2xH12xH2x", b"PE\0\0", len(sections), 0)
    at = 0x200
    for name, content in sections:
        header += struct.pack("<8sIIII16x", name, len(content), 0, len(content), at)
        at += len(content)
    return bytes(header.ljust(0x200, b"\0")) + b"".join(content for _, content in sections)


def reference(version: str) -> Reference:
    """A release: its root, the tree over it, its UKI."""
    root = b"".join(bytes([int(version), block]) * 2048 for block in range(BLOCKS))
    tree = build_tree(io.BytesIO(root), BLOCKS, salt=b"salt", uuid=_TREE)
    return Reference(version, tree.root_hash, root, tree.content, uki(version))


FIRST, SECOND = reference("1"), reference("2")


class RecordingDisk(MemoryDisk):
    """A disk in memory that notes what is written to it; `lies`: it forgets the writes to these ranges."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content, name="small")
        self.requests: list[Piece | None] = []
        self.lies: list[range] = []

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        if not any(each.start <= offset < each.stop for each in self.lies):
            super().pwrite(offset, data)
            self.requests.append(Piece(offset, bytes(data)))

    def sync(self) -> None:
        super().sync()
        self.requests.append(None)


def boot_partition(*, second_loader: bool = True) -> FatImage:
    """XBOOTLDR before the update."""
    made = FatImage(bits=16)
    made.file(f"EFI/Linux/{BLESSED}", FIRST.uki)
    if second_loader:
        made.file("EFI/BOOT/BOOTX64.EFI", LOADER)
        made.file("loader/loader.conf", f"timeout 0\ndefault {BLESSED}\n".encode().ljust(512, b"#"))
    return made


def esp() -> FatImage:
    """The ESP before the update."""
    made = FatImage(bits=16)
    made.file("EFI/BOOT/BOOTX64.EFI", LOADER)
    made.file("loader/loader.conf", b"timeout 0\n")
    return made


def disk_of_release_1() -> bytes:
    """The whole disk before the update."""
    sizes = {"boot_sectors": _BOOT_SECTORS, "root_sectors": 8 * BLOCKS, "verity_sectors": 16, "var_sectors": 64}
    disk = MemoryDisk(disk_image(twin_parts(**sizes)))
    where = find_slots(read_table(disk), ROOT_TYPES["x86-64"])
    identity = identity_of(FIRST.root_hash)
    write_identity(disk, where.a.verity_index, uuid=identity.verity_uuid, label="host_1")
    write_identity(disk, where.a.data_index, uuid=identity.data_uuid, label="host_1")
    for partition, content in (
        (where.esp, esp().build()),
        (where.xbootldr, boot_partition().build()),
        (where.a.data, FIRST.root),
        (where.a.verity, FIRST.tree),
    ):
        assert len(content) <= partition.size_bytes
        disk.pwrite(partition.offset_bytes, bytes(content))
    return disk.content


@dataclass
class SmallHost:
    """The disk, and the single steps of an update to release 2."""

    before: bytes = field(default_factory=disk_of_release_1)

    def __post_init__(self) -> None:
        self.disk = RecordingDisk(self.before)

    @property
    def where(self) -> DiskMap:
        return find_slots(read_table(MemoryDisk(self.before)), ROOT_TYPES["x86-64"])

    def write_slot(self, slot: Slot = Slot.B, release: Reference = SECOND) -> None:
        """Root and tree, block by block."""
        where = self.where.slot(slot)
        for start, content in ((where.data.offset_bytes, release.root), (where.verity.offset_bytes, release.tree)):
            for at in range(0, len(content), 4096):
                self.disk.pwrite(start + at, content[at : at + 4096])

    def set_identity(self, release: Reference = SECOND) -> None:
        """The tree first, the data last, each durable."""
        where, identity = self.where.b, identity_of(release.root_hash)
        for index, uuid in ((where.verity_index, identity.verity_uuid), (where.data_index, identity.data_uuid)):
            write_identity(self.disk, index, uuid=uuid, label="host_2", attributes=WRITTEN_ATTRIBUTES)

    def add_uki(self, name: str = STAGED, content: bytes = SECOND.uki) -> None:
        """The file's clusters, then both tables, then its name: as a careful file system would."""
        start = self.where.xbootldr.offset_bytes
        made = boot_partition()
        old = bytes(made.build())
        made.file(f"EFI/Linux/{name}", content)
        new = bytes(made.build())
        changed = [at for at in range(0, len(old), 512) if old[at : at + 512] != new[at : at + 512]]
        folder = made.offset(made.first["EFI/Linux"])
        names = [at for at in changed if folder <= at < folder + made.folder_clusters * made.cluster_bytes]
        tables = [at for at in changed if at < made.data_offset]
        for at in (*(each for each in changed if each not in (*names, *tables)), *tables, *names):
            self.disk.pwrite(start + at, new[at : at + 512])

    def log(self, path: Path) -> Path:
        """Everything written so far, as QEMU notes it (writes to the disk)."""
        sectors = [struct.pack("<QQQI", 0x6A736677736872, 1, len(self.disk.requests), 512).ljust(512, b"\0")]
        for request in self.disk.requests:
            if request is None:
                sectors.append(struct.pack("<QQQQ", 0, 0, 1, 0).ljust(512, b"\0"))
            else:
                size = len(request.data) // 512
                sectors.append(struct.pack("<QQQQ", request.offset // 512, size, 0, 0).ljust(512, b"\0"))
                sectors.append(request.data)
        path.write_bytes(b"".join(sectors))
        return path
