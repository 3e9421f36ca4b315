"""Disk images with a partition table, put together from the UEFI specification's tables and not with our own code."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

SECTOR = 512
ENTRY_COUNT = 128
ENTRY_SECTORS = 32
FIRST_USABLE = 34

ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
XBOOTLDR = UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172")
ROOT = UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
ROOT_VERITY = UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
STATE = UUID("cb64ef99-b638-4a1b-b892-419b1c5b1e0a")
VAR = UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
DISK_UUID = UUID("d15cd15c-0000-4000-8000-000000000001")


@dataclass(frozen=True)
class PartitionSpec:
    """A partition of an image."""

    type_uuid: UUID
    uuid: UUID
    first_lba: int
    last_lba: int
    label: str = ""
    attributes: int = 0


def twin_parts(
    *,
    boot_sectors: int = 64,
    root_sectors: int = 256,
    verity_sectors: int = 64,
    state_sectors: int = 64,
    var_sectors: int = 64,
    start: int = 40,
) -> list[PartitionSpec]:
    """The eight partitions of a Twinhull disk, small, each starting on a 4096-byte boundary; UUIDs are 1 to 8."""
    wanted = [
        (ESP, boot_sectors, "esp"),
        (XBOOTLDR, boot_sectors, "xbootldr"),
        (ROOT, root_sectors, "_empty"),
        (ROOT_VERITY, verity_sectors, "_empty"),
        (ROOT, root_sectors, "_empty"),
        (ROOT_VERITY, verity_sectors, "_empty"),
        (STATE, state_sectors, "state"),
        (VAR, var_sectors, "var"),
    ]
    parts = []
    first = start
    for number, (type_uuid, sectors, label) in enumerate(wanted, start=1):
        parts.append(PartitionSpec(type_uuid, UUID(int=number), first, first + sectors - 1, label))
        first += -(-sectors // 8) * 8
    return parts


def disk_image(parts: Sequence[PartitionSpec], *, sectors: int | None = None) -> bytes:
    """An image with a protective MBR and both copies of the table."""
    count = sectors or max((part.last_lba for part in parts), default=FIRST_USABLE) + 1 + ENTRY_SECTORS + 1 + 8
    image = bytearray(count * SECTOR)
    image[446:462] = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, count - 1)
    image[510:512] = b"\x55\xaa"
    entries = b"".join(_entry(part) for part in parts).ljust(ENTRY_COUNT * 128, b"\0")
    for own, other, entries_lba in ((1, count - 1, 2), (count - 1, 1, count - 1 - ENTRY_SECTORS)):
        header = _header(own, other, entries_lba, count - 2 - ENTRY_SECTORS, zlib.crc32(entries))
        image[own * SECTOR : own * SECTOR + len(header)] = header
        image[entries_lba * SECTOR : entries_lba * SECTOR + len(entries)] = entries
    return bytes(image)


def with_header_field(image: bytes, *, lba: int, offset: int, value: bytes) -> bytes:
    """The image with bytes of one header replaced and that header's checksum made right again."""
    changed = bytearray(image)
    base = lba * SECTOR
    changed[base + offset : base + offset + len(value)] = value
    changed[base + 16 : base + 20] = bytes(4)
    changed[base + 16 : base + 20] = struct.pack("<I", zlib.crc32(changed[base : base + 92]))
    return bytes(changed)


def _entry(part: PartitionSpec) -> bytes:
    label = part.label.encode("utf-16-le").ljust(72, b"\0")
    place = struct.pack("<QQQ", part.first_lba, part.last_lba, part.attributes)
    return part.type_uuid.bytes_le + part.uuid.bytes_le + place + label


def _header(own: int, other: int, entries_lba: int, last_usable: int, entries_crc: int) -> bytes:
    def packed(crc: int) -> bytes:
        return (
            b"EFI PART"
            + struct.pack("<IIII", 0x00010000, 92, crc, 0)
            + struct.pack("<QQQQ", own, other, FIRST_USABLE, last_usable)
            + DISK_UUID.bytes_le
            + struct.pack("<QIII", entries_lba, ENTRY_COUNT, 128, entries_crc)
        )

    return packed(zlib.crc32(packed(0)))
