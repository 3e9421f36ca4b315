"""The arithmetic of a dm-verity tree and its superblock, as values and bytes.

Format: dm-verity superblock version 1, hash type 1 (the salt comes before the data), SHA-256, data and hash blocks of
4096 bytes.  On the tree device the superblock has the first block; then come the levels, the top one first.
Sources: Linux, Documentation/admin-guide/device-mapper/verity.rst; cryptsetup, "DM-Verity on-disk specification".

Pure: no I/O.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from partitions.errors import VerityError

BLOCK_SIZE = 4096
DIGEST_SIZE = 32
DIGESTS_PER_BLOCK = BLOCK_SIZE // DIGEST_SIZE
MAX_SALT_SIZE = 256
MAX_DATA_BLOCKS = 1 << 40
SUPERBLOCK_SIZE = 512

_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")
_SIGNATURE = b"verity\0\0"
_SUPERBLOCK_VERSION = 1
_HASH_TYPE = 1
_ALGORITHM = b"sha256"


@dataclass(frozen=True)
class Level:
    """One level of the tree: `first_block` and `blocks` count blocks of the tree device, superblock included."""

    first_block: int
    blocks: int


@dataclass(frozen=True)
class TreeLayout:
    """Where the levels are.  `levels[0]` is the top (one block); the last one holds the digests of the data blocks.

    A tree over a single data block has no level: the root hash is that block's own digest.
    """

    data_blocks: int
    levels: tuple[Level, ...]

    @property
    def total_blocks(self) -> int:
        """Blocks the tree device needs, superblock included."""
        return 1 + sum(level.blocks for level in self.levels)

    @property
    def size_bytes(self) -> int:
        """Bytes the tree device needs, superblock included."""
        return self.total_blocks * BLOCK_SIZE


def tree_layout(data_blocks: int) -> TreeLayout:
    """Lay out the tree over `data_blocks` blocks of data.

    Raises:
        ValueError: There are no data blocks, or more than a disk can have.
    """
    if not 1 <= data_blocks <= MAX_DATA_BLOCKS:
        raise ValueError(f"a verity tree needs from 1 to {MAX_DATA_BLOCKS} data blocks, not {data_blocks}")
    sizes = []
    blocks = data_blocks
    while blocks > 1:
        blocks = -(-blocks // DIGESTS_PER_BLOCK)
        sizes.append(blocks)
    levels = []
    first_block = 1
    for size in reversed(sizes):
        levels.append(Level(first_block, size))
        first_block += size
    return TreeLayout(data_blocks, tuple(levels))


@dataclass(frozen=True)
class Superblock:
    """The superblock of the tree device.  Nothing in it is signed; a wrong value makes the root hash differ."""

    uuid: UUID
    data_blocks: int
    salt: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.data_blocks <= MAX_DATA_BLOCKS:
            raise ValueError(f"data_blocks must be from 1 to {MAX_DATA_BLOCKS}, not {self.data_blocks}")
        if len(self.salt) > MAX_SALT_SIZE:
            raise ValueError(f"a salt has at most {MAX_SALT_SIZE} bytes, not {len(self.salt)}")

    def to_bytes(self) -> bytes:
        """The 512 bytes at the start of the tree device."""
        return _SUPERBLOCK.pack(
            _SIGNATURE,
            _SUPERBLOCK_VERSION,
            _HASH_TYPE,
            self.uuid.bytes,
            _ALGORITHM,
            BLOCK_SIZE,
            BLOCK_SIZE,
            self.data_blocks,
            len(self.salt),
            self.salt,
        )

    @classmethod
    def from_bytes(cls, raw: bytes, *, source: str) -> Superblock:
        """Read the start of a tree device; `source` names it in errors.

        Raises:
            VerityError: Not a superblock, or one of a format other than the one we write.
        """
        if len(raw) < SUPERBLOCK_SIZE:
            raise VerityError(f"{source}: a verity superblock has {SUPERBLOCK_SIZE} bytes, there are {len(raw)}")
        signature, version, kind, uuid, algorithm, data_size, hash_size, data_blocks, salt_size, salt = (
            _SUPERBLOCK.unpack_from(raw)
        )
        if signature != _SIGNATURE:
            raise VerityError(f"{source}: no verity superblock")
        found = (version, kind, algorithm.rstrip(b"\0"), data_size, hash_size)
        wanted = (_SUPERBLOCK_VERSION, _HASH_TYPE, _ALGORITHM, BLOCK_SIZE, BLOCK_SIZE)
        if found != wanted:
            raise VerityError(
                f"{source}: the verity superblock (version, hash type, algorithm, data and hash block size) is "
                f"{found}, supported is {wanted}"
            )
        if salt_size > MAX_SALT_SIZE:
            raise VerityError(f"{source}: the verity superblock has a salt of {salt_size} bytes")
        try:
            return cls(UUID(bytes=uuid), data_blocks, salt[:salt_size])
        except ValueError as error:
            raise VerityError(f"{source}: the verity superblock is wrong: {error}") from error
