"""Building a dm-verity tree in user space, and verifying data against one as the disk holds them.

Gives the same results as `veritysetup` (format 1, SHA-256, blocks of 4096 bytes), see `hashtree`.  Memory use is the
upper levels of the tree and a few pieces of 4 MiB, whatever the size of the data.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol
from uuid import UUID

from bedrock.progress import Progress, Silent
from partitions.blockio import CHUNK_BYTES, BlockDevice, aligned_buffer
from partitions.errors import VerityError
from partitions.hashtree import (
    BLOCK_SIZE,
    DIGEST_SIZE,
    DIGESTS_PER_BLOCK,
    SUPERBLOCK_SIZE,
    Level,
    Superblock,
    TreeLayout,
    tree_layout,
)

__all__ = [
    "BLOCK_SIZE",
    "HashTree",
    "Superblock",
    "TreeLayout",
    "build_tree",
    "read_superblock",
    "tree_layout",
    "verify",
]

_CHUNK_BLOCKS = CHUNK_BYTES // BLOCK_SIZE
LEAF_BLOCKS = 256
_THREADS = 2
_ROOT_HASH = re.compile(r"[0-9a-f]{64}")


class Reader(Protocol):
    """The source of the data, one piece after the other."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


@dataclass(frozen=True)
class HashTree:
    """A tree that was just built: the root hash as hexadecimal digits, and the bytes of the tree device."""

    root_hash: str
    superblock: Superblock
    content: bytes


def build_tree(
    reader: Reader, data_blocks: int, *, salt: bytes, uuid: UUID, progress: Progress | None = None
) -> HashTree:
    """Build the tree over exactly `data_blocks` blocks read from `reader`; memory use is the tree (1/128 of the data).

    Raises:
        ValueError: There are no data blocks, or the salt is longer than 256 bytes.
        VerityError: The data end early or continue after the last block.
    """
    superblock = Superblock(uuid, data_blocks, salt)
    layout = tree_layout(data_blocks)
    salted = hashlib.sha256(salt)
    shown = progress or Silent()
    shown.step("Building the verity tree", total=data_blocks * BLOCK_SIZE)
    digests = bytearray()
    for piece in _whole_blocks(reader, data_blocks):
        digests += _digests(piece, salted)
        shown.advance(len(piece))
    levels: list[bytes] = []
    for level in reversed(layout.levels):
        levels.append(bytes(digests).ljust(level.blocks * BLOCK_SIZE, b"\0"))
        digests = bytearray(_digests(memoryview(levels[-1]), salted))
    content = superblock.to_bytes().ljust(BLOCK_SIZE, b"\0") + b"".join(reversed(levels))
    return HashTree(digests.hex(), superblock, content)


def read_superblock(tree: BlockDevice) -> Superblock:
    """Read the superblock of a tree device, past the cache.

    Raises:
        VerityError: There is none, or one of another format.
        BlockIOError: The device cannot be read.
    """
    if tree.size_bytes < BLOCK_SIZE:
        raise VerityError(f"{tree.name}: too small for a verity superblock")
    return Superblock.from_bytes(tree.pread_uncached(0, SUPERBLOCK_SIZE), source=tree.name)


def verify(
    data: BlockDevice,
    tree: BlockDevice,
    *,
    root_hash: str,
    progress: Progress | None = None,
    leaf_blocks: int = LEAF_BLOCKS,
) -> Superblock:
    """Check every block of the tree and of the data, as the disk holds them, against the root hash.

    Both are read past the cache and may be longer than needed (a partition).  Reading and hashing run in two threads.

    Args:
        data: The data.
        tree: The tree, with its superblock.
        root_hash: What the whole must hash to.
        progress: Shows how far it is.
        leaf_blocks: How many blocks of the tree's lowest level are held at a time.

    Raises:
        VerityError: The superblock is wrong, a device is too short, or a block does not match; `block` is the first
            such block of the device the message names.
        BlockIOError: A device cannot be read.
    """
    superblock = read_superblock(tree)
    layout = tree_layout(superblock.data_blocks)
    for device, needed in ((data, layout.data_blocks * BLOCK_SIZE), (tree, layout.size_bytes)):
        if device.size_bytes < needed:
            raise VerityError(f"{device.name}: has {device.size_bytes} bytes, the verity superblock needs {needed}")
    shown = progress or Silent()
    shown.step("Verifying what the disk holds", total=layout.size_bytes + layout.data_blocks * BLOCK_SIZE)
    check = _Check(data, tree, layout, hashlib.sha256(superblock.salt), shown, leaf_blocks=leaf_blocks)
    check.run(root_hash)
    return superblock


class _Check:
    """One verification: walks the tree from the root hash down to the data."""

    def __init__(
        self,
        data: BlockDevice,
        tree: BlockDevice,
        layout: TreeLayout,
        salted: Any,
        progress: Progress,
        *,
        leaf_blocks: int,
    ) -> None:
        self._data = data
        self._tree = tree
        self._layout = layout
        self._salted = salted
        self._progress = progress
        self._leaf_blocks = leaf_blocks
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(_THREADS):
            self._buffers.put(aligned_buffer(min(CHUNK_BYTES, layout.data_blocks * BLOCK_SIZE)))

    def run(self, root_hash: str) -> None:
        """Check everything.

        Raises:
            VerityError: The first block that does not match.
        """
        self._progress.advance(BLOCK_SIZE)
        if not _ROOT_HASH.fullmatch(root_hash):
            raise VerityError(f"{root_hash[:80]!r} is not a root hash of 64 hexadecimal digits")
        expected = bytes.fromhex(root_hash)
        for level in self._layout.levels[:-1]:
            expected = self._inner_level(level, expected)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="verity") as pool:
            for leaf in self._leaves(expected):
                _each_in_order(pool, self._data_jobs(leaf), self._progress)

    def _leaves(self, expected: bytes) -> Iterator[tuple[int, bytes]]:
        """Verified pieces of the lowest level, as (first data block, digests of the data blocks from there on)."""
        if not self._layout.levels:
            yield 0, expected
            return
        lowest = self._layout.levels[-1]
        for start in range(0, lowest.blocks, self._leaf_blocks):
            part = Level(lowest.first_block + start, min(self._leaf_blocks, lowest.blocks - start))
            wanted = expected[start * DIGEST_SIZE : (start + part.blocks) * DIGEST_SIZE]
            yield start * DIGESTS_PER_BLOCK, self._inner_level(part, wanted)

    def _inner_level(self, level: Level, expected: bytes) -> bytes:
        """Check blocks of the tree; they hold the digests of the next level."""
        content = self._tree.pread_uncached(level.first_block * BLOCK_SIZE, level.blocks * BLOCK_SIZE)
        self._compare(self._tree, level.first_block, memoryview(content), expected[: level.blocks * DIGEST_SIZE])
        self._progress.advance(len(content))
        return content

    def _data_jobs(self, leaf: tuple[int, bytes]) -> Iterator[Callable[[], int]]:
        first_block, digests = leaf
        end = min(self._layout.data_blocks, first_block + len(digests) // DIGEST_SIZE)
        for start in range(first_block, end, _CHUNK_BLOCKS):
            blocks = min(_CHUNK_BLOCKS, end - start)
            offset = (start - first_block) * DIGEST_SIZE
            yield partial(self._check_data, start, digests[offset : offset + blocks * DIGEST_SIZE])

    def _check_data(self, first_block: int, expected: bytes) -> int:
        """Read and check the data blocks that `expected` has digests for; returns their size in bytes."""
        buffer = self._buffers.get()
        try:
            view = buffer[: len(expected) // DIGEST_SIZE * BLOCK_SIZE]
            self._data.preadinto_uncached(first_block * BLOCK_SIZE, view)
            self._compare(self._data, first_block, view, expected)
            return len(view)
        finally:
            self._buffers.put(buffer)

    def _compare(self, device: BlockDevice, first_block: int, content: memoryview, expected: bytes) -> None:
        found = _digests(content, self._salted)
        if found == expected:
            return
        for index in range(len(content) // BLOCK_SIZE):
            place = slice(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE)
            if found[place] != expected[place]:
                block = first_block + index
                raise VerityError(f"{device.name}: block {block} does not match the root hash", block=block)
        raise VerityError(f"{device.name}: there are digests for {len(expected)} bytes, not {len(found)}")


def _each_in_order(pool: ThreadPoolExecutor, jobs: Iterator[Callable[[], int]], progress: Progress) -> None:
    """Run jobs in the pool, a few at a time; raises the first failure in the order of the jobs."""
    running: deque[Future[int]] = deque(pool.submit(job) for job in itertools.islice(jobs, _THREADS))
    try:
        while running:
            progress.advance(running.popleft().result())
            running.extend(pool.submit(job) for job in itertools.islice(jobs, 1))
    finally:
        for job in running:
            job.cancel()


def _digests(content: memoryview, salted: Any) -> bytes:
    """The digests of the blocks of `content`, one after the other; `salted` is a hash that has seen the salt."""
    found = []
    for start in range(0, len(content), BLOCK_SIZE):
        block = salted.copy()
        block.update(content[start : start + BLOCK_SIZE])
        found.append(block.digest())
    return b"".join(found)


def _whole_blocks(reader: Reader, data_blocks: int) -> Iterator[memoryview]:
    """The data in pieces of whole blocks."""
    left = data_blocks * BLOCK_SIZE
    while left:
        piece = bytearray()
        wanted = min(left, CHUNK_BYTES)
        while len(piece) < wanted:
            part = reader.read(wanted - len(piece))
            if not part:
                raise VerityError(f"the data end {left - len(piece)} bytes before the last of {data_blocks} blocks")
            piece += part
        left -= wanted
        yield memoryview(piece)
    if reader.read(1):
        raise VerityError(f"the data continue after the last of {data_blocks} blocks")
