"""Verity trees: arithmetic, building, verifying."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock.errors import EXIT_REFUSED
from partitions.errors import BlockIOError, VerityError
from partitions.hashtree import BLOCK_SIZE, Level, Superblock, tree_layout
from partitions.verity import HashTree, build_tree, verify
from tests.fakes.memory_disk import MemoryDisk

UUID_1 = UUID(int=1)
SALT = b"salt" * 8
SIZES = (1, 2, 127, 128, 129, 1025, 128 * 128 + 1)


@cache
def content_of(blocks: int) -> bytes:
    """Every block differs from every other."""
    filler = hashlib.shake_128().digest(BLOCK_SIZE - 8)
    return b"".join(index.to_bytes(8, "big") + filler for index in range(blocks))


@cache
def built(blocks: int) -> HashTree:
    return build_tree(io.BytesIO(content_of(blocks)), blocks, salt=SALT, uuid=UUID_1)


def devices(blocks: int, *, spare: int = 3) -> tuple[MemoryDisk, MemoryDisk]:
    room = bytes(spare * BLOCK_SIZE)
    data = MemoryDisk(content_of(blocks) + room, name="root-b")
    return data, MemoryDisk(built(blocks).content + room, name="root-b-verity")


class Heard:
    """A `Progress` that adds up."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    def step(self, name: str, *, total: int | None = None) -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.done += amount


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [
        (1, ()),
        (2, (Level(1, 1),)),
        (128, (Level(1, 1),)),
        (129, (Level(1, 1), Level(2, 2))),
        (128 * 128, (Level(1, 1), Level(2, 128))),
        (128 * 128 + 1, (Level(1, 1), Level(2, 2), Level(4, 129))),
    ],
)
def test_levels_lie_top_first(blocks: int, levels: tuple[Level, ...]) -> None:
    assert tree_layout(blocks).levels == levels
    assert tree_layout(blocks).total_blocks == 1 + sum(level.blocks for level in levels)


@pytest.mark.parametrize("blocks", [0, -1, (1 << 40) + 1])
def test_impossible_sizes_have_no_tree(blocks: int) -> None:
    with pytest.raises(ValueError, match="data blocks"):
        tree_layout(blocks)


@given(st.integers(1, 1 << 40))
def test_every_level_has_room_for_the_digests_below_it(blocks: int) -> None:
    levels = tree_layout(blocks).levels
    below = [level.blocks for level in levels[1:]] + [blocks]
    for level, count in zip(levels, below, strict=False):
        assert (level.blocks - 1) * 128 < count <= level.blocks * 128
    assert not levels or levels[0].blocks == 1


@given(st.uuids(), st.integers(1, 1 << 40), st.binary(max_size=256))
def test_superblock_survives_the_disk(uuid: UUID, data_blocks: int, salt: bytes) -> None:
    superblock = Superblock(uuid, data_blocks, salt)
    assert len(superblock.to_bytes()) == 512
    assert Superblock.from_bytes(superblock.to_bytes(), source="tree") == superblock


@given(st.binary(max_size=600))
def test_noise_is_no_superblock(noise: bytes) -> None:
    with pytest.raises(VerityError):
        Superblock.from_bytes(noise, source="tree")


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, b"\2"), (12, b"\0"), (32, b"sha512"), (64, b"\0\2"), (68, b"\0\2"), (72, bytes(8)), (80, b"\1\1")],
)
def test_superblock_of_another_format_is_refused(offset: int, value: bytes) -> None:
    raw = bytearray(Superblock(UUID_1, 10, SALT).to_bytes())
    raw[offset : offset + len(value)] = value
    with pytest.raises(VerityError, match="tree: the verity superblock"):
        Superblock.from_bytes(bytes(raw), source="tree")


def test_salt_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="256"):
        Superblock(UUID_1, 1, bytes(257))


def test_one_block_is_its_own_root() -> None:
    assert built(1).root_hash == hashlib.sha256(SALT + content_of(1)).hexdigest()
    assert len(built(1).content) == BLOCK_SIZE


def test_two_blocks_are_hashed_by_hand() -> None:
    content = content_of(2)
    leaves = b"".join(hashlib.sha256(SALT + content[at : at + BLOCK_SIZE]).digest() for at in (0, BLOCK_SIZE))
    assert built(2).root_hash == hashlib.sha256(SALT + leaves.ljust(BLOCK_SIZE, b"\0")).hexdigest()


@pytest.mark.parametrize("change", [-1, 1])
def test_data_of_another_length_than_said_are_refused(change: int) -> None:
    with pytest.raises(VerityError, match=r"the data (end|continue)"):
        build_tree(io.BytesIO(bytes(3 * BLOCK_SIZE + change)), 3, salt=SALT, uuid=UUID_1)


class Dripping:
    """Returns one byte less than requested."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int, /) -> bytes:
        return self._stream.read(max(1, size - 1))


def test_reader_that_gives_less_than_asked_for_makes_no_difference() -> None:
    assert build_tree(Dripping(content_of(129)), 129, salt=SALT, uuid=UUID_1) == built(129)


@pytest.mark.parametrize("blocks", SIZES)
def test_sound_slot_is_accepted_with_every_byte_read_past_the_cache(blocks: int) -> None:
    data, tree = devices(blocks)
    heard = Heard()
    assert verify(data, tree, root_hash=built(blocks).root_hash, progress=heard) == built(blocks).superblock
    assert heard.done == heard.total == blocks * BLOCK_SIZE + len(built(blocks).content)
    assert data.uncached_reads
    assert tree.uncached_reads
    assert not data.journal
    assert not tree.journal


@pytest.mark.parametrize(
    ("blocks", "bad"), [(1, 0), (2, 1), (129, 0), (129, 128), (1025, 1024), (16385, 0), (16385, 9000), (16385, 16384)]
)
def test_flipped_bit_in_the_data_is_named(blocks: int, bad: int) -> None:
    data, tree = devices(blocks)
    data.corrupt(bad * BLOCK_SIZE + 4095, flip=0x80)
    with pytest.raises(VerityError, match=f"root-b: block {bad} does not match") as refused:
        verify(data, tree, root_hash=built(blocks).root_hash)
    assert refused.value.block == bad
    assert refused.value.exit_code == EXIT_REFUSED


def test_first_of_several_bad_blocks_is_named() -> None:
    data, tree = devices(16385)
    for bad in (16000, 5000, 2047, 12000):
        data.corrupt(bad * BLOCK_SIZE)
    with pytest.raises(VerityError) as refused:
        verify(data, tree, root_hash=built(16385).root_hash)
    assert refused.value.block == 2047


@pytest.mark.parametrize("block", range(1, 5))
def test_flipped_bit_in_any_level_of_the_tree_is_named(block: int) -> None:
    data, tree = devices(16385)
    tree.corrupt(block * BLOCK_SIZE + 3)
    with pytest.raises(VerityError, match=f"root-b-verity: block {block} ") as refused:
        verify(data, tree, root_hash=built(16385).root_hash)
    assert refused.value.block == block


def test_flipped_bit_in_the_unused_end_of_a_hash_block_is_found() -> None:
    data, tree = devices(2)
    tree.corrupt(2 * BLOCK_SIZE - 1)
    with pytest.raises(VerityError, match="root-b-verity: block 1"):
        verify(data, tree, root_hash=built(2).root_hash)


def test_changed_salt_is_found() -> None:
    data, tree = devices(2)
    tree.corrupt(88)
    with pytest.raises(VerityError):
        verify(data, tree, root_hash=built(2).root_hash)


@pytest.mark.parametrize("text", ["", "00", "z" * 64, "0" * 63, "A" * 64])
def test_what_is_no_root_hash_is_refused(text: str) -> None:
    data, tree = devices(2)
    with pytest.raises(VerityError, match="is not a root hash"):
        verify(data, tree, root_hash=text)


def test_right_root_hash_with_more_behind_it_is_refused() -> None:
    data, tree = devices(2)
    with pytest.raises(VerityError, match="is not a root hash"):
        verify(data, tree, root_hash=built(2).root_hash * 2)


def test_another_images_root_hash_is_refused() -> None:
    data, tree = devices(129)
    with pytest.raises(VerityError, match="root-b-verity: block 1 "):
        verify(data, tree, root_hash=built(128).root_hash)


def test_superblock_that_claims_more_than_the_slot_holds_is_refused() -> None:
    data, tree = devices(129, spare=0)
    short = MemoryDisk(data.content[:-BLOCK_SIZE], name="root-b")
    with pytest.raises(VerityError, match=r"root-b: has .* needs"):
        verify(short, tree, root_hash=built(129).root_hash)
    short = MemoryDisk(tree.content[:-BLOCK_SIZE], name="root-b-verity")
    with pytest.raises(VerityError, match=r"root-b-verity: has .* needs"):
        verify(data, short, root_hash=built(129).root_hash)


@pytest.mark.parametrize("size", [0, 511, 4095, 4096])
def test_tree_without_superblock_is_refused(size: int) -> None:
    with pytest.raises(VerityError, match="superblock"):
        verify(devices(1)[0], MemoryDisk(size), root_hash=built(1).root_hash)


def test_unreadable_data_are_an_io_error() -> None:
    data, tree = devices(129)
    data.broken_ranges.append(range(100 * BLOCK_SIZE, 100 * BLOCK_SIZE + 1))
    with pytest.raises(BlockIOError, match="Input/output error"):
        verify(data, tree, root_hash=built(129).root_hash)


def test_lowest_level_is_checked_piece_by_piece() -> None:
    data, tree = devices(1025)
    verify(data, tree, root_hash=built(1025).root_hash, leaf_blocks=2)
    data.corrupt(1024 * BLOCK_SIZE)
    with pytest.raises(VerityError) as refused:
        verify(data, tree, root_hash=built(1025).root_hash, leaf_blocks=2)
    assert refused.value.block == 1024
