"""FAT file systems in memory, put together from the specification's tables and not with our own code."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SECTOR = 512
SLOT = 32
_END = {16: 0xFFFF, 32: 0x0FFFFFFF}


def long_name(name: str, short: bytes) -> list[bytes]:
    """The slots of a long name, the last part first."""
    total = 0
    for byte in short:
        total = ((total << 7 & 0x80) + (total >> 1) + byte) & 0xFF
    units = [*name.encode("utf-16-le")]
    if len(units) % 26:
        units += [0, 0]
    units += [0xFF] * (-len(units) % 26)
    slots = []
    for at in range(0, len(units), 26):
        part, last = bytes(units[at : at + 26]), at + 26 == len(units)
        slot = bytes([at // 26 + 1 | last << 6]) + part[:10] + b"\x0f\0" + bytes([total]) + part[10:22] + b"\0\0"
        slots.append(slot + part[22:])
    return slots[::-1]


def short_slot(short: bytes, *, cluster: int = 0, size: int = 0, attributes: int = 0x20, case: int = 0) -> bytes:
    """The slot of a short name."""
    return struct.pack("<11sBB7xHIHI", short, attributes, case, cluster >> 16, 0x5A000000, cluster & 0xFFFF, size)


@dataclass
class FatImage:
    """A file system under construction: `bits` 16 or 32, clusters of `per_cluster` sectors.

    FAT32 may have fewer clusters than the specification asks for, as a small image of mkfs.fat -F 32.
    """

    bits: int = 32
    clusters: int = 200
    per_cluster: int = 1
    folder_clusters: int = 4
    folders: dict[str, list[bytes]] = field(default_factory=dict)
    chains: dict[int, int] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    names: int = 0

    def __post_init__(self) -> None:
        self.clusters = max(self.clusters, 4085 if self.bits == 16 else 1)
        self.next = 2
        self.folders[""] = []
        self.first[""] = self.take(self.folder_clusters) if self.bits == 32 else 0

    @property
    def cluster_bytes(self) -> int:
        return self.per_cluster * SECTOR

    def take(self, count: int) -> int:
        """A chain of fresh clusters."""
        first = self.next
        for cluster in range(first, first + count):
            self.chains[cluster] = cluster + 1
        self.chains[first + count - 1] = _END[self.bits]
        self.next += count
        return first

    def folder(self, path: str) -> str:
        """Make a folder and those above it."""
        if path not in self.folders:
            parent, _, name = path.rpartition("/")
            self.folder(parent)
            first = self.take(self.folder_clusters)
            self.first[path] = first
            self.add_slots(parent, name, cluster=first, size=0, attributes=0x10)
            above = self.first[parent] if parent else 0
            dots = [(b".", first), (b"..", above)]
            self.folders[path] = [short_slot(dot.ljust(11), cluster=to, attributes=0x10) for dot, to in dots]
        return path

    def file(self, path: str, content: bytes, *, skip: int = 0) -> int:
        """Add a file behind `skip` deleted slots; its first cluster."""
        parent, _, name = path.rpartition("/")
        self.folder(parent)
        self.folders[parent] += [b"\xe5" + bytes(31)] * skip
        count = -(-len(content) // self.cluster_bytes)
        first = self.take(count) if count else 0
        for at in range(count):
            self.content[first + at] = content[at * self.cluster_bytes : (at + 1) * self.cluster_bytes]
        self.add_slots(parent, name, cluster=first, size=len(content))
        return first

    def add_slots(self, parent: str, name: str, *, cluster: int, size: int, attributes: int = 0x20) -> None:
        self.names += 1
        base, _, extension = name.upper().partition(".")
        plain = all(letter.isalnum() or letter in "$%'-_@~`!(){}^#&" for letter in base + extension)
        if name.isascii() and name == name.upper() and plain and 0 < len(base) <= 8 and len(extension) <= 3:
            short = base.encode().ljust(8) + extension.encode().ljust(3)
            self.folders[parent].append(short_slot(short, cluster=cluster, size=size, attributes=attributes))
            return
        short = f"NAME~{self.names}".encode().ljust(8) + b"TMP"
        last = short_slot(short, cluster=cluster, size=size, attributes=attributes)
        self.folders[parent] += [*long_name(name, short), last]

    @property
    def table_sectors(self) -> int:
        return -(-(self.clusters + 2) * (self.bits // 8) // SECTOR)

    @property
    def reserved(self) -> int:
        return 32 if self.bits == 32 else 1

    @property
    def data_offset(self) -> int:
        root = 512 * SLOT if self.bits == 16 else 0
        return (self.reserved + 2 * self.table_sectors) * SECTOR + root

    def offset(self, cluster: int) -> int:
        """Where a cluster begins."""
        return self.data_offset + (cluster - 2) * self.cluster_bytes

    def build(self) -> bytearray:
        """The bytes of the file system."""
        image = bytearray(self.data_offset + self.clusters * self.cluster_bytes)
        boot = self._boot_sector(len(image) // SECTOR)
        image[:SECTOR] = boot
        if self.bits == 32:
            image[6 * SECTOR : 7 * SECTOR] = boot
        table = self._table()
        for copy in range(2):
            at = (self.reserved + copy * self.table_sectors) * SECTOR
            image[at : at + len(table)] = table
        for path, slots in self.folders.items():
            raw = b"".join(slots)
            room = self.folder_clusters * self.cluster_bytes if self.first[path] else 512 * SLOT
            assert len(raw) <= room, f"{path} is full"
            at = self.offset(self.first[path]) if self.first[path] else self.data_offset - 512 * SLOT
            image[at : at + len(raw)] = raw
        for cluster, content in self.content.items():
            image[self.offset(cluster) : self.offset(cluster) + len(content)] = content
        return image

    def _boot_sector(self, sectors: int) -> bytes:
        small = sectors if self.bits == 16 and sectors < 1 << 16 else 0
        sector = bytearray(SECTOR)
        struct.pack_into(
            "<3s8sHBHBHHBHHHII",
            *(sector, 0, b"\xeb\x58\x90", b"mkfs.fat", SECTOR, self.per_cluster, self.reserved, 2),
            *(512 if self.bits == 16 else 0, small, 0xF8, self.table_sectors if self.bits == 16 else 0, 32, 8, 0),
            0 if small else sectors,
        )
        if self.bits == 32:
            struct.pack_into("<IHHIHH", sector, 36, self.table_sectors, 0, 0, self.first[""], 1, 6)
        struct.pack_into("<BBBI", sector, 64 if self.bits == 32 else 36, 0x80, 0, 0x29, 0x12345678)
        sector[510:] = b"\x55\xaa"
        return bytes(sector)

    def _table(self) -> bytes:
        code = "I" if self.bits == 32 else "H"
        entries = [0] * (self.clusters + 2)
        entries[0], entries[1] = _END[self.bits] & ~7, _END[self.bits]
        for cluster, following in self.chains.items():
            entries[cluster] = following
        return struct.pack(f"<{len(entries)}{code}", *entries)
