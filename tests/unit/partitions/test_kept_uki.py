"""The copy of a UKI behind the root file system of its slot."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions import kept_uki
from partitions.errors import UkiError
from partitions.hashtree import BLOCK_SIZE
from partitions.kept_uki import KeptUki
from tests.fakes.memory_disk import MemoryDisk

PARTITION = 64 * BLOCK_SIZE
UKI = bytes(range(256)) * 40 + b"end"
HASH = "ab" * 32


def kept_in(disk: MemoryDisk, content: bytes = UKI) -> KeptUki:
    kept = kept_uki.place(PARTITION, uki_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), root_hash=HASH)
    disk.pwrite(kept.offset_bytes, content)
    kept_uki.write_record(disk, kept)
    return kept


def test_a_copy_is_found_again_and_is_whole() -> None:
    disk = MemoryDisk(bytes(PARTITION))
    kept = kept_in(disk)
    assert kept_uki.read_record(disk) == kept
    kept_uki.check(disk, kept)
    assert b"".join(map(bytes, kept_uki.chunks(disk, kept))) == UKI
    assert kept.offset_bytes % BLOCK_SIZE == 0


def test_a_damaged_copy_is_found() -> None:
    disk = MemoryDisk(bytes(PARTITION))
    kept = kept_in(disk)
    disk.corrupt(kept.offset_bytes + len(UKI) - 1)
    with pytest.raises(UkiError, match="is damaged"):
        kept_uki.check(disk, kept)


def test_a_slot_without_a_copy_says_so() -> None:
    with pytest.raises(UkiError, match="keeps no copy"):
        kept_uki.read_record(MemoryDisk(bytes(PARTITION)))


@given(st.integers(min_value=0, max_value=99), st.integers(min_value=0, max_value=7))
def test_any_flipped_bit_of_a_record_is_found(at: int, bit: int) -> None:
    kept = kept_uki.place(PARTITION, uki_bytes=len(UKI), sha256="cd" * 32, root_hash=HASH)
    block = bytearray(kept_uki.record_of(kept))
    block[at] ^= 1 << bit
    with pytest.raises(UkiError):
        kept_uki.parse_record(bytes(block), PARTITION)


@given(st.integers(min_value=1, max_value=40 * BLOCK_SIZE), st.integers(min_value=1, max_value=40 * BLOCK_SIZE))
def test_a_copy_fits_exactly_when_root_and_copy_do_not_overlap(root: int, uki: int) -> None:
    room = kept_uki.bytes_with_copy(root_bytes=root, uki_bytes=uki)
    kept = kept_uki.place(room, uki_bytes=uki, sha256="cd" * 32, root_hash=HASH)
    assert root <= kept.offset_bytes
    assert kept.offset_bytes + uki <= room - BLOCK_SIZE
    assert room - BLOCK_SIZE < root + 2 * BLOCK_SIZE + uki + 2 * BLOCK_SIZE


@pytest.mark.parametrize(("partition", "uki"), [(BLOCK_SIZE, 1), (PARTITION, PARTITION), (PARTITION, 0)])
def test_what_does_not_fit_is_refused(partition: int, uki: int) -> None:
    with pytest.raises(UkiError, match="cannot keep"):
        kept_uki.place(partition, uki_bytes=uki, sha256="cd" * 32, root_hash=HASH)
