"""Reading and writing block devices, image files and the partitions in them.

Rules: every range is checked against the device before anything is read or written; a read or a write is whole or an
error; `pread_uncached` and `preadinto_uncached` do not believe the page cache.  Nothing is durable before `sync`.
Not here: what the bytes mean.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from partitions.errors import BlockIOError

ALIGNMENT = 4096
CHUNK_BYTES = 4 << 20
# Linux, include/uapi/linux/fs.h: the size of the sectors that the device takes whole.
_BLKSSZGET = 0x1268


class BlockDevice(Protocol):
    """A fixed number of bytes that can be read and written in place."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""

    @property
    def name(self) -> str:
        """The device's name in messages."""

    def pread(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset`.

        Raises:
            BlockIOError: The range is not on the device, or the read failed.
        """

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset` on the device; durable only after `sync`.

        Raises:
            BlockIOError: The range is not on the device, or the write failed.
        """

    def sync(self) -> None:
        """Make everything written so far durable on the disk.

        Raises:
            BlockIOError: The device did not confirm.
        """

    def pread_uncached(self, offset: int, length: int) -> bytes:
        """Read what the disk holds, past the page cache.

        Raises:
            BlockIOError: The range is not on the device, or the read failed.
        """

    def preadinto_uncached(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with what the disk holds, past the page cache; without a copy when it is an `aligned_buffer`.

        Raises:
            BlockIOError: The range is not on the device, or the read failed.
        """

    def close(self) -> None:
        """Let go of the device; does not sync."""


def aligned_buffer(size_bytes: int) -> memoryview:
    """Zeroed memory that starts on a page boundary, as direct I/O needs it."""
    return memoryview(mmap.mmap(-1, size_bytes))[:size_bytes]


def check_range(device: BlockDevice, offset: int, length: int) -> None:
    """Refuse a range that is not wholly on the device.

    Raises:
        BlockIOError: It is not.
    """
    if offset < 0 or length < 0 or offset + length > device.size_bytes:
        raise BlockIOError(
            f"{device.name}: bytes {offset} to {offset + length} are not within its {device.size_bytes} bytes"
        )


class FileBlockDevice:
    """A block device or an image file.

    Aligned transfers use direct I/O (`O_DIRECT`).  On a block device, writes of whole sectors from an `aligned_buffer`
    do too, so that exactly these sectors are written and no page around them.  Where the filesystem refuses direct I/O
    (tmpfs on older kernels), reads past the cache fall back to flushing the file and asking the kernel to drop its
    pages: the best available on such a filesystem, but the kernel may ignore it.
    """

    def __init__(
        self, path: Path, handle: int, direct_handle: int | None, size_bytes: int, *, sector_bytes: int = ALIGNMENT
    ) -> None:
        self._path = path
        self._handle = handle
        self._direct = direct_handle
        self._size_bytes = size_bytes
        self._sector_bytes = sector_bytes

    @classmethod
    def open(cls, path: Path, *, writable: bool, direct: bool = True) -> FileBlockDevice:
        """Open a device or an image file; its size is read once, here.

        Args:
            path: What to open.
            writable: Whether it may be written to.
            direct: Whether direct I/O is used where the filesystem has it.

        Raises:
            BlockIOError: It cannot be opened, or is neither a block device nor a regular file.
        """
        mode = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        with _told_as_block_error(f"{path}: cannot be opened"):
            handle = os.open(path, mode)
        try:
            with _told_as_block_error(f"{path}: cannot be opened"):
                mode_found = os.fstat(handle).st_mode
                _require_disk(path, mode_found)
                sector_bytes = _sector_bytes(handle) if stat.S_ISBLK(mode_found) else ALIGNMENT
                size_bytes = os.lseek(handle, 0, os.SEEK_END)
                direct_handle = _open_direct(path, mode) if direct else None
        except BlockIOError:
            os.close(handle)
            raise
        return cls(path, handle, direct_handle, size_bytes, sector_bytes=sector_bytes)

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return self._size_bytes

    @property
    def name(self) -> str:
        """The path it was opened by."""
        return str(self._path)

    def pread(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset`, through the page cache."""
        check_range(self, offset, length)
        data = bytearray(length)
        with self._told("reading", offset, length):
            _fill(self._handle, memoryview(data), offset)
        return bytes(data)

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset` on the device; aligned data go past the page cache."""
        view = memoryview(data).cast("B")
        check_range(self, offset, len(view))
        with self._told("writing", offset, len(view)):
            handle = self._handle
            if self._direct is not None and _is_aligned(offset, view, self._sector_bytes):
                handle = self._direct
            _drain(handle, view, offset)

    def sync(self) -> None:
        """Make everything written so far durable on the disk."""
        with _told_as_block_error(f"{self.name}: syncing failed"):
            os.fsync(self._handle)

    def pread_uncached(self, offset: int, length: int) -> bytes:
        """Read what the disk holds, past the page cache."""
        data = bytearray(length)
        self.preadinto_uncached(offset, memoryview(data))
        return bytes(data)

    def preadinto_uncached(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with what the disk holds, past the page cache."""
        check_range(self, offset, len(buffer))
        with self._told("reading", offset, len(buffer)):
            if self._direct is None:
                self._drop_cache(offset, len(buffer))
                _fill(self._handle, buffer, offset)
            elif _is_aligned(offset, buffer):
                _fill(self._direct, buffer, offset)
            else:
                self._fill_bounced(self._direct, offset, buffer)

    def close(self) -> None:
        """Let go of the device; does not sync."""
        os.close(self._handle)
        if self._direct is not None:
            os.close(self._direct)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill_bounced(self, handle: int, offset: int, buffer: memoryview) -> None:
        """Read whole aligned blocks into a buffer of our own and return the requested part."""
        done = 0
        bounce = aligned_buffer(min(CHUNK_BYTES, _aligned_span(offset, len(buffer))))
        while done < len(buffer):
            start = offset + done
            skip = start % ALIGNMENT
            amount = min(len(buffer) - done, len(bounce) - skip)
            span = min(_aligned_span(start, amount), len(bounce))
            # The device may end inside the last block; the read is then short, but never shorter than the request.
            available = min(span, self._size_bytes - (start - skip))
            _fill(handle, bounce[:span], start - skip, at_least=available)
            buffer[done : done + amount] = bounce[skip : skip + amount]
            done += amount

    def _drop_cache(self, offset: int, length: int) -> None:
        os.fsync(self._handle)
        start = offset - offset % ALIGNMENT
        os.posix_fadvise(self._handle, start, _aligned_span(offset, length), os.POSIX_FADV_DONTNEED)

    @contextmanager
    def _told(self, doing: str, offset: int, length: int) -> Iterator[None]:
        with _told_as_block_error(f"{self.name}: {doing} {length} bytes at {offset} failed"):
            yield


class DeviceWindow:
    """A part of another device, such as a partition; nothing outside it can be reached through it."""

    def __init__(self, device: BlockDevice, offset: int, size_bytes: int, *, name: str | None = None) -> None:
        """Open `size_bytes` bytes of `device` from `offset` on.

        Raises:
            BlockIOError: They are not on the device.
        """
        check_range(device, offset, size_bytes)
        self._device = device
        self._offset = offset
        self._size_bytes = size_bytes
        self._name = name or f"{device.name}[{offset}+{size_bytes}]"

    @property
    def size_bytes(self) -> int:
        """The size of the window in bytes."""
        return self._size_bytes

    @property
    def name(self) -> str:
        """The window's name in messages."""
        return self._name

    def pread(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset` of the window."""
        check_range(self, offset, length)
        return self._device.pread(self._offset + offset, length)

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset` of the window on the device."""
        check_range(self, offset, memoryview(data).nbytes)
        self._device.pwrite(self._offset + offset, data)

    def sync(self) -> None:
        """Make everything written to the whole device durable."""
        self._device.sync()

    def pread_uncached(self, offset: int, length: int) -> bytes:
        """Read what the disk holds at `offset` of the window, past the page cache."""
        check_range(self, offset, length)
        return self._device.pread_uncached(self._offset + offset, length)

    def preadinto_uncached(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with what the disk holds at `offset` of the window, past the page cache."""
        check_range(self, offset, len(buffer))
        self._device.preadinto_uncached(self._offset + offset, buffer)

    def close(self) -> None:
        """Do nothing: the opener of the device closes it."""


class StreamWriter:
    """Writes a stream to the start of a device in large aligned pieces; it never holds more than one piece in memory.

    The pieces bypass the page cache where possible, so the disk writes while the stream still arrives, and `sync` has
    little left to do.
    """

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self._buffer = aligned_buffer(CHUNK_BYTES)
        self._filled = 0
        self._flushed = 0

    @property
    def written_bytes(self) -> int:
        """Bytes received so far."""
        return self._flushed + self._filled

    def write(self, data: bytes | memoryview) -> None:
        """Add the next bytes of the stream; writes to the disk whenever a piece is full.

        Raises:
            BlockIOError: The stream is longer than the device, or a write failed.
        """
        view = memoryview(data).cast("B")
        check_range(self._device, self.written_bytes, len(view))
        while view:
            taken = min(len(view), CHUNK_BYTES - self._filled)
            self._buffer[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == CHUNK_BYTES:
                self._flush(CHUNK_BYTES)

    def finish(self) -> int:
        """Write the rest to the disk, padded with zeros to a whole block of 4096 bytes; the caller syncs.

        Returns:
            The length of the stream in bytes, without the zeros.

        Raises:
            BlockIOError: A write failed.
        """
        total = self.written_bytes
        if self._filled:
            padded = min(_aligned_span(0, self._filled), self._device.size_bytes - self._flushed)
            self._buffer[self._filled : padded] = bytes(padded - self._filled)
            self._flush(padded)
        return total

    def _flush(self, length: int) -> None:
        self._device.pwrite(self._flushed, self._buffer[:length])
        self._flushed += self._filled
        self._filled = 0


def _require_disk(path: Path, mode: int) -> None:
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise BlockIOError(f"{path}: neither a block device nor an image file")


def _open_direct(path: Path, mode: int) -> int | None:
    """A second handle for direct I/O, or None where the filesystem has none."""
    try:
        return os.open(path, mode | os.O_DIRECT)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return None
        raise


def _sector_bytes(handle: int) -> int:
    """The size of a block device's sectors."""
    return int(struct.unpack("i", fcntl.ioctl(handle, _BLKSSZGET, bytes(struct.calcsize("i"))))[0])


def _is_aligned(offset: int, view: memoryview, granularity: int = ALIGNMENT) -> bool:
    """Whether direct I/O takes a transfer in units of so many bytes; the memory must start on a page boundary."""
    if offset % granularity or len(view) % granularity or view.readonly or not len(view):
        return False
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % ALIGNMENT == 0


def _aligned_span(offset: int, length: int) -> int:
    """The size in bytes of all blocks that `length` bytes at `offset` touch."""
    start = offset - offset % ALIGNMENT
    return -(-(offset + length) // ALIGNMENT) * ALIGNMENT - start


def _fill(handle: int, buffer: memoryview, offset: int, *, at_least: int | None = None) -> None:
    """Read until `buffer` is full, or holds `at_least` bytes."""
    _transfer(lambda part, position: os.preadv(handle, [part], position), buffer, offset, at_least)


def _drain(handle: int, view: memoryview, offset: int) -> None:
    """Write all of `view`."""
    _transfer(lambda part, position: os.pwrite(handle, part, position), view, offset, None)


def _transfer(move: Callable[[memoryview, int], int], view: memoryview, offset: int, at_least: int | None) -> None:
    done, wanted = 0, len(view) if at_least is None else at_least
    while done < wanted:
        moved = move(view[done:], offset + done)
        if moved == 0:
            raise OSError(errno.EIO, f"the device ended after {done} bytes")
        done += moved


@contextmanager
def _told_as_block_error(message: str) -> Iterator[None]:
    """Turn an OSError into a BlockIOError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise BlockIOError(f"{message}: {error.strerror or error}") from error
