"""Image files, windows and streams."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.blockio import ALIGNMENT, CHUNK_BYTES, DeviceWindow, FileBlockDevice, StreamWriter, aligned_buffer
from partitions.errors import BlockIOError
from tests.fakes.memory_disk import MemoryDisk, Power, PowerCut

CONTENT = bytes(range(256)) * 64 + b"an odd end"


@dataclass(frozen=True)
class Image:
    """An image file, opened with direct I/O or without."""

    path: Path
    direct: bool

    def open(self, *, writable: bool) -> FileBlockDevice:
        return FileBlockDevice.open(self.path, writable=writable, direct=self.direct)


@pytest.fixture(params=["direct", "cached"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Image:
    """An image file whose size is not a multiple of a block."""
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return Image(path, direct=request.param == "direct")


def test_reads_agree_with_the_file(image: Image) -> None:
    with image.open(writable=False) as device:
        assert device.size_bytes == len(CONTENT)
        assert device.name == str(image.path)
        for offset, length in [(0, 1), (511, 2), (4095, 2), (4096, 8192), (100, 16000), (16380, 14), (0, len(CONTENT))]:
            assert device.pread(offset, length) == CONTENT[offset : offset + length]
            assert device.pread_uncached(offset, length) == CONTENT[offset : offset + length]
        assert device.pread_uncached(len(CONTENT), 0) == b""


def test_aligned_buffer_is_filled_in_place(image: Image) -> None:
    buffer = aligned_buffer(8192)
    with image.open(writable=False) as device:
        device.preadinto_uncached(4096, buffer)
    assert bytes(buffer) == CONTENT[4096:12288]


def test_writes_reach_the_file_aligned_or_not(image: Image) -> None:
    block = aligned_buffer(4096)
    block[:] = b"x" * 4096
    with image.open(writable=True) as device:
        device.pwrite(4096, block)
        device.pwrite(7, b"seven")
        device.pwrite(len(CONTENT) - 3, memoryview(b"END"))
        device.sync()
        assert device.pread_uncached(0, 12) == CONTENT[:7] + b"seven"
        assert device.pread(4096, 4096) == b"x" * 4096
    raw = image.path.read_bytes()
    assert len(raw) == len(CONTENT)
    assert raw[-3:] == b"END"


def test_read_past_the_cache_sees_what_another_handle_wrote(image: Image) -> None:
    with image.open(writable=False) as device:
        assert device.pread_uncached(0, 4) == CONTENT[:4]
        with image.path.open("r+b") as other:
            other.write(b"news")
        assert device.pread_uncached(0, 4) == b"news"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, len(CONTENT) + 1), (len(CONTENT), 1), (1 << 70, 1)])
def test_range_outside_the_device_is_refused(image: Image, offset: int, length: int) -> None:
    with image.open(writable=True) as device:
        with pytest.raises(BlockIOError, match="not within"):
            device.pread(offset, length)
        with pytest.raises(BlockIOError, match="not within"):
            device.preadinto_uncached(offset, memoryview(bytearray(length)))
        with pytest.raises(BlockIOError, match="not within"):
            device.pwrite(offset, bytes(length))
    assert image.path.read_bytes() == CONTENT


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlockIOError, match="gone: cannot be opened: No such file"):
        FileBlockDevice.open(tmp_path / "gone", writable=False)


def test_folder_and_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BlockIOError, match="neither a block device nor an image file"):
        FileBlockDevice.open(tmp_path, writable=False)
    with pytest.raises(BlockIOError, match="neither a block device nor an image file"):
        FileBlockDevice.open(Path(os.devnull), writable=False)


def test_writing_what_was_opened_for_reading_fails_by_name(image: Image) -> None:
    refusal = r"disk\.raw: writing 1 bytes at 0 failed: Bad file descriptor"
    with image.open(writable=False) as device, pytest.raises(BlockIOError, match=refusal):
        device.pwrite(0, b"x")


def test_file_that_shrank_under_us_is_an_error_not_zeros(image: Image) -> None:
    with image.open(writable=False) as device:
        os.truncate(image.path, 100)
        with pytest.raises(BlockIOError, match="the device ended"):
            device.pread(0, 200)
        with pytest.raises(BlockIOError, match="the device ended"):
            device.pread_uncached(0, 200)


@given(offset=st.integers(-10, 120), length=st.integers(-10, 120))
def test_window_reaches_its_own_bytes_and_no_others(offset: int, length: int) -> None:
    disk = MemoryDisk(bytes(range(200)))
    window = DeviceWindow(disk, 50, 100)
    inside = offset >= 0 and length >= 0 and offset + length <= 100
    if inside:
        assert window.pread(offset, length) == bytes(range(50 + offset, 50 + offset + length))
        assert window.pread_uncached(offset, length) == window.pread(offset, length)
        window.pwrite(offset, b"\xff" * length)
        assert disk.content[50 + offset : 50 + offset + length] == b"\xff" * length
    else:
        with pytest.raises(BlockIOError):
            window.pread(offset, length)
        if length >= 0:
            with pytest.raises(BlockIOError):
                window.pwrite(offset, bytes(length))
    assert disk.content[:50] == bytes(range(50))
    assert disk.content[150:] == bytes(range(150, 200))


def test_window_outside_its_device_is_refused() -> None:
    with pytest.raises(BlockIOError, match="not within"):
        DeviceWindow(MemoryDisk(100), 50, 51)


def test_windows_nest_and_leave_the_device_open() -> None:
    disk = MemoryDisk(bytes(range(100)))
    inner = DeviceWindow(DeviceWindow(disk, 10, 50), 10, 10, name="inner")
    buffer = memoryview(bytearray(3))
    inner.preadinto_uncached(2, buffer)
    assert bytes(buffer) == bytes([22, 23, 24])
    inner.pwrite(0, b"x")
    inner.sync()
    inner.close()
    assert not disk.closed
    assert disk.durable[20] == ord("x")
    assert inner.name == "inner"


@given(st.lists(st.binary(max_size=9000), max_size=5))
def test_stream_is_written_whole_and_filled_up_with_zeros(pieces: list[bytes]) -> None:
    disk = MemoryDisk(b"\xee" * (12 * ALIGNMENT))
    writer = StreamWriter(disk)
    stream = b"".join(pieces)
    for piece in pieces:
        writer.write(piece)
    assert writer.finish() == len(stream)
    padded = -(-len(stream) // ALIGNMENT) * ALIGNMENT
    assert disk.content[:padded] == stream.ljust(padded, b"\0")
    assert disk.content[padded:] == b"\xee" * (len(disk.content) - padded)


def test_stream_goes_out_in_aligned_pieces(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(2 * CHUNK_BYTES + 2 * ALIGNMENT))
    stream = os.urandom(2 * CHUNK_BYTES + ALIGNMENT + 5)
    disk = MemoryDisk(2 * CHUNK_BYTES + 2 * ALIGNMENT)
    with FileBlockDevice.open(path, writable=True) as device:
        for target in (device, disk):
            writer = StreamWriter(target)
            for start in range(0, len(stream), 1_000_003):
                writer.write(memoryview(stream)[start : start + 1_000_003])
            assert writer.finish() == len(stream)
            target.sync()
    assert [length for kind, _, length in disk.journal if kind == "write"] == [CHUNK_BYTES, CHUNK_BYTES, 8192]
    assert path.read_bytes() == disk.content == stream.ljust(len(disk.content), b"\0")


def test_stream_longer_than_the_device_is_refused_before_it_is_written() -> None:
    disk = MemoryDisk(8192)
    writer = StreamWriter(disk)
    writer.write(bytes(8000))
    with pytest.raises(BlockIOError, match="not within"):
        writer.write(bytes(193))
    assert disk.journal == []


def test_stream_fills_an_odd_device_to_its_end_and_not_further() -> None:
    disk = MemoryDisk(5000)
    writer = StreamWriter(disk)
    writer.write(b"x" * 4999)
    assert writer.finish() == 4999
    assert disk.content == b"x" * 4999 + b"\0"


def test_the_fake_loses_what_was_not_synced() -> None:
    disk = MemoryDisk(bytes(2048))
    disk.pwrite(0, b"a")
    disk.sync()
    disk.pwrite(1, b"b")
    disk.pwrite(2, b"c")
    assert disk.content[:3] == b"abc"
    disk.cut(keep=[1])
    assert disk.content[:3] == b"a\0c"


def test_the_fake_cuts_at_the_chosen_step_and_stays_off() -> None:
    power = Power()
    disk, other = MemoryDisk(bytes(2048), power=power), MemoryDisk(16, power=power)
    disk.torn = True
    power.cut_after(2)
    disk.pwrite(0, b"x")
    other.sync()
    with pytest.raises(PowerCut):
        disk.pwrite(0, b"y" * 2048)
    with pytest.raises(PowerCut):
        other.pread(0, 1)
    disk.cut()
    assert disk.content == b"y" * 1024 + bytes(1024)
    disk.pwrite(0, b"z")
