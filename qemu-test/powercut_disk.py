"""A disk in memory that a log of writes is replayed on, forwards, and with single steps taken back.

The file that it begins with is never written.  What the judge looks at are regions of the disk; each has a generation,
which is the same again when a step was taken back, so that a judgement is made anew only when something changed.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from partitions.blockio import check_range

CHUNK = 1 << 20


class Change(Protocol):
    """Receives which bytes of the disk changed."""

    def __call__(self, offset: int, length: int, /) -> None:
        """They changed, forwards or back."""


@dataclass(frozen=True)
class Piece:
    """Bytes that reach the disk."""

    offset: int
    data: bytes


class ReplayedDisk:
    """A `BlockDevice` whose content is a file's and the writes since.

    Args:
        path: What it begins with.
        regions: Names of parts of it, and the ranges of bytes that they are.
    """

    def __init__(self, path: Path, regions: Mapping[str, Sequence[range]] | None = None) -> None:
        with path.open("rb") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self._path = path
        self._regions: dict[str, Sequence[range]] = dict(regions or {})
        self._generations: dict[str, int] = dict.fromkeys(self._regions, 0)
        self._last = 0
        self._dirty: set[int] = set()
        self.watchers: list[Change] = []

    @property
    def size_bytes(self) -> int:
        return len(self._bytes)

    @property
    def name(self) -> str:
        return self._path.name

    def watch(self, name: str, *ranges: range) -> None:
        """Give a region a name."""
        self._regions[name] = ranges
        self._generations[name] = 0

    def generation(self, *names: str) -> tuple[int, ...]:
        """A value that is another one whenever the regions' content is."""
        return tuple(self._generations[name] for name in names)

    def touches(self, name: str, offset: int, length: int) -> bool:
        """Whether a range of the disk meets a region."""
        return any(part.start < offset + length and offset < part.stop for part in self._regions[name])

    def apply(self, offset: int, data: bytes) -> None:
        """Let a write reach the disk (in memory)."""
        check_range(self, offset, len(data))
        self._put(offset, data)
        self._last += 1
        for name in self._regions:
            if self.touches(name, offset, len(data)):
                self._generations[name] = self._last

    @contextmanager
    def trial(self, pieces: Sequence[Piece]) -> Iterator[None]:
        """Let writes reach the disk for as long as the block runs; then everything is as it was."""
        kept, generations = [], dict(self._generations)
        for piece in pieces:
            kept.append(Piece(piece.offset, self.pread(piece.offset, len(piece.data))))
            self.apply(piece.offset, piece.data)
        try:
            yield
        finally:
            for piece in reversed(kept):
                self._put(piece.offset, piece.data)
            self._generations = generations

    def data_chunks(self, part: range) -> Iterator[tuple[int, int]]:
        """The offsets and lengths of the pieces of a range that may hold something: not holes never written to."""
        with self._path.open("rb") as stream:
            handle, held = stream.fileno(), set(self._dirty)
            at = part.start
            while at < part.stop:
                try:
                    at = os.lseek(handle, at, os.SEEK_DATA)
                except OSError:
                    break
                end = min(os.lseek(handle, at, os.SEEK_HOLE), part.stop)
                held |= set(range(at // CHUNK, -(-end // CHUNK)))
                at = end
        for chunk in sorted(held):
            start, stop = max(chunk * CHUNK, part.start), min((chunk + 1) * CHUNK, part.stop)
            if start < stop:
                yield start, stop - start

    def pread(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._bytes[offset : offset + length]

    def pread_uncached(self, offset: int, length: int) -> bytes:
        return self.pread(offset, length)

    def preadinto_uncached(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.pread(offset, len(buffer))

    def pwrite(self, offset: int, data: bytes | memoryview) -> None:
        self.apply(offset, bytes(data))

    def sync(self) -> None:
        """Nothing is durable here but what a test says."""

    def close(self) -> None:
        self._bytes.close()

    def _put(self, offset: int, data: bytes) -> None:
        self._bytes[offset : offset + len(data)] = data
        self._dirty.update(range(offset // CHUNK, -(-(offset + len(data)) // CHUNK)))
        for watcher in self.watchers:
            watcher(offset, len(data))
