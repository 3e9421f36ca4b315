"""The copy of its UKI that a slot keeps, at the end of the slot's data partition, behind the root file system.

Layout, from the end of the partition: one block that describes the copy (the *record*), before it the UKI, whose first
byte is on a block boundary; what is between the root file system and the UKI means nothing.
The copy is what the UKI on the boot partition is written from and repaired from.  It is not part of what dm-verity
checks: the record's hash says whether it is whole, and the firmware says whether it may boot.

The record, 4096 bytes: magic (16), format (4, little-endian), reserved (4), length of the UKI in bytes (8), SHA-256 of
the UKI (32), root hash that it boots (32), CRC-32 of all this (4), zeros.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from partitions.blockio import CHUNK_BYTES, BlockDevice, aligned_buffer
from partitions.errors import UkiError
from partitions.hashtree import BLOCK_SIZE

_MAGIC = b"twinhull-uki\0\0\0\0"
_FORMAT = 1
_RECORD = struct.Struct("<16sI4xQ32s32s")
_CRC = struct.Struct("<I")


@dataclass(frozen=True)
class KeptUki:
    """What a record says: where in the partition the copy is, in bytes, and what it must be."""

    offset_bytes: int
    size_bytes: int
    sha256: str
    root_hash: str


def place(partition_bytes: int, *, uki_bytes: int, sha256: str, root_hash: str) -> KeptUki:
    """Where a copy goes in a partition of this size.

    Raises:
        UkiError: The partition is too small.
    """
    offset = partition_bytes - BLOCK_SIZE - _blocks(uki_bytes)
    if offset < 0 or uki_bytes < 1:
        raise UkiError(f"a partition of {partition_bytes} bytes cannot keep a UKI of {uki_bytes} bytes")
    return KeptUki(offset, uki_bytes, sha256, root_hash)


def bytes_with_copy(*, root_bytes: int, uki_bytes: int) -> int:
    """How large a data partition must be for a root file system and the copy of its UKI."""
    return _blocks(root_bytes) + _blocks(uki_bytes) + BLOCK_SIZE


def record_of(kept: KeptUki) -> bytes:
    """The last block of the partition."""
    sums = bytes.fromhex(kept.sha256), bytes.fromhex(kept.root_hash)
    body = _RECORD.pack(_MAGIC, _FORMAT, kept.size_bytes, *sums)
    return (body + _CRC.pack(zlib.crc32(body))).ljust(BLOCK_SIZE, b"\0")


def parse_record(block: bytes, partition_bytes: int) -> KeptUki:
    """Read the last block of a partition.

    Raises:
        UkiError: It does not describe a copy, or one that cannot be there.
    """
    magic, form, size_bytes, sha256, root_hash = _RECORD.unpack_from(block)
    if magic != _MAGIC:
        raise UkiError("the slot keeps no copy of its UKI")
    if form != _FORMAT or _CRC.unpack_from(block, _RECORD.size)[0] != zlib.crc32(block[: _RECORD.size]):
        raise UkiError("the record of the UKI that the slot keeps is damaged")
    return place(partition_bytes, uki_bytes=size_bytes, sha256=sha256.hex(), root_hash=root_hash.hex())


def read_record(partition: BlockDevice) -> KeptUki:
    """Read what a slot's data partition keeps, past the cache.

    Raises:
        UkiError: It keeps no copy, or its record is damaged.
        BlockIOError: It cannot be read.
    """
    block = partition.pread_uncached(partition.size_bytes - BLOCK_SIZE, BLOCK_SIZE)
    return parse_record(block, partition.size_bytes)


def write_record(partition: BlockDevice, kept: KeptUki) -> None:
    """Write the record to the disk, durably; the copy itself is there already."""
    partition.pwrite(partition.size_bytes - BLOCK_SIZE, record_of(kept))
    partition.sync()


def chunks(partition: BlockDevice, kept: KeptUki) -> Iterator[memoryview]:
    """The bytes of the copy, read past the cache; each part is valid until the next one is asked for.

    Raises:
        BlockIOError: It cannot be read.
    """
    buffer = aligned_buffer(min(CHUNK_BYTES, _blocks(kept.size_bytes)))
    for done in range(0, kept.size_bytes, len(buffer)):
        wanted = min(len(buffer), _blocks(kept.size_bytes) - done)
        partition.preadinto_uncached(kept.offset_bytes + done, buffer[:wanted])
        yield buffer[: min(wanted, kept.size_bytes - done)]


def check(partition: BlockDevice, kept: KeptUki) -> None:
    """Compare the copy on the disk with its record.

    Raises:
        UkiError: It is damaged.
        BlockIOError: It cannot be read.
    """
    digest = hashlib.sha256()
    for chunk in chunks(partition, kept):
        digest.update(chunk)
    if digest.hexdigest() != kept.sha256:
        raise UkiError(f"{partition.name}: the UKI that the slot keeps is damaged: it has {digest.hexdigest()}")


def _blocks(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_SIZE) * BLOCK_SIZE
