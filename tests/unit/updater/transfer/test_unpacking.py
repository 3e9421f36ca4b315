"""Unpacking: bounded pieces in bounded memory, whatever the file is."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.fakes.tampering import flipped
from updater.transfer.failure import TransferError
from updater.transfer.messages import Failure, Unpack
from updater.transfer.unpacking import PIECE_BYTES, unpack

RAW = os.urandom(3 << 20) + bytes(3 << 20)


class Collected:
    def __init__(self) -> None:
        self.size_bytes = 0
        self.largest = 0
        self.parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self.largest = max(self.largest, len(data))
        self.parts.append(data)


def unpacked(packed: bytes, raw_bytes: int = len(RAW)) -> Collected:
    got = Collected()
    unpack(Unpack(raw_bytes), io.BytesIO(packed), got.add)
    return got


def refused(packed: bytes) -> Collected:
    got = Collected()
    with pytest.raises(TransferError, match="cannot be unpacked") as caught:
        unpack(Unpack(len(RAW)), io.BytesIO(packed), got.add)
    assert (caught.value.failure, caught.value.again) == (Failure.DAMAGED, False)
    return got


def test_raw_bytes_come_whole_and_in_bounded_pieces() -> None:
    got = unpacked(zstandard.compress(RAW, 3))
    assert b"".join(got.parts) == RAW
    assert got.largest <= PIECE_BYTES


def test_several_frames_are_one_object() -> None:
    got = unpacked(zstandard.compress(RAW[: 1 << 20], 3) + zstandard.compress(RAW[1 << 20 :], 3))
    assert b"".join(got.parts) == RAW


def test_a_bomb_is_cut_off_one_piece_after_what_is_signed_in_bounded_memory() -> None:
    bomb = zstandard.compress(bytes(512 << 20), 3)
    sizes: list[int] = []
    tracemalloc.start()
    unpack(Unpack(1 << 20), io.BytesIO(bomb), lambda data: sizes.append(len(data)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) <= (1 << 20) + 2 * PIECE_BYTES
    assert peak < 64 << 20


@pytest.mark.parametrize("level", [1, 19])
def test_levels_that_releases_are_packed_with_are_unpacked(level: int) -> None:
    assert unpacked(zstandard.compress(RAW, level)).size_bytes == len(RAW)


def test_an_object_that_wants_a_large_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=26)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert refused(packer.compress(RAW) + packer.flush()).size_bytes == 0


@pytest.mark.parametrize(
    "packed", [b"<html>log in</html>", b"\0" * 100, b"PK\3\4" * 100, b"\x28\xb5\x2f\xfd" + b"\xff" * 50]
)
def test_what_is_something_else_is_refused(packed: bytes) -> None:
    refused(packed)


def test_damage_of_the_header_is_refused() -> None:
    refused(flipped(zstandard.compress(RAW, 3), 0))


def test_a_truncated_object_gives_less_or_is_refused() -> None:
    # Which of the two it is the agent does not rely on: it counts.
    packed = zstandard.compress(RAW, 3)
    try:
        got = unpacked(packed[: len(packed) // 2])
    except TransferError:
        return
    assert got.size_bytes < len(RAW)


def test_nothing_gives_nothing() -> None:
    assert unpacked(b"").size_bytes == 0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.FileIO]:
    path = tmp_path / "packed"
    path.write_bytes(zstandard.compress(os.urandom(24 << 20), 1))
    with path.open("rb", buffering=0) as opened:
        yield opened


def test_a_file_is_read_to_its_end_and_dropped_from_the_cache_on_the_way(file: io.FileIO) -> None:
    got = Collected()
    unpack(Unpack(24 << 20), file, got.add)
    assert got.size_bytes == 24 << 20
