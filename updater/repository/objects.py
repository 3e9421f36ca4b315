"""Bulk data by content: `objects/<first two digits>/<sha256>`, zstd-compressed, written once.

Rules: an object gets its name only when all of it is on the disk; the window never exceeds 8 MiB, so a host
decompresses in constant, small memory; bytes that do not compress are stored raw.

Why level 19: 300 MB of programs, libraries and modules take, with two threads on two cores, 1.0 s at level 3 (33.1 %
of the size), 2.7 s at 9 (30.1 %), 5.8 s at 12 (29.8 %), 22 s at 15 (29.6 %) and 69 s at 19 (26.8 %).
A release is compressed once and downloaded by every host; level 9 is for builds that nobody downloads.
Higher settings gain nothing: on a root of 264 MB long-distance matching saves 0.03 % of level 19's result, and the
deepest search that fits the window 0.02 %.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from bedrock.digest import file_sha256
from bedrock.persist import sync_folder
from bedrock.progress import Progress
from updater.documents.release import Artifact, Compression, StoredObject
from updater.errors import RefusedError, RepositoryError
from updater.repository.layout import Layout

DEFAULT_LEVEL = 19
QUICK_LEVEL = 9
MAX_LEVEL = 19
WINDOW_LOG = 23
_CHUNK_BYTES = 1 << 20
_MAX_THREADS = 4
_INCOMING = ".incoming-"


@dataclass(frozen=True)
class Stored:
    """An object in the store, and whether its file is new."""

    stored: StoredObject
    new: bool


def put_object(layout: Layout, source: Path, artifact: Artifact, *, level: int, progress: Progress) -> Stored:
    """Write an artifact's compressed object to the disk, durably; an existing object is not changed.

    Call it holding the repository's lock.

    Raises:
        RefusedError: The source is not (or no longer) what `artifact` says.
        OSError: The disk is full or fails.
    """
    layout.objects.mkdir(exist_ok=True)
    incoming = layout.objects / f"{_INCOMING}{os.getpid()}"
    try:
        packed = _compress(source, artifact, incoming, level=level, progress=progress)
        if packed.size_bytes >= artifact.size_bytes:
            packed = _copy(source, artifact, incoming)
        return Stored(packed, new=_settle(layout, incoming, packed))
    finally:
        incoming.unlink(missing_ok=True)


def packed_bytes(chunks: Iterable[bytes], *, size_bytes: int, level: int = DEFAULT_LEVEL) -> int:
    """How many bytes a host would download for `size_bytes` bytes of content, compressed like objects."""
    packer = zstandard.ZstdCompressor(compression_params=_parameters(level, size_bytes)).compressobj(size=size_bytes)
    packed = sum(len(packer.compress(chunk)) for chunk in chunks) + len(packer.flush())
    return min(packed, size_bytes)


def packed_file_bytes(path: Path, *, level: int = DEFAULT_LEVEL, progress: Progress) -> int:
    """How many bytes a host would download for a file, compressed like objects; reads only.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return packed_bytes(_told(stream, progress), size_bytes=path.stat().st_size, level=level)


def remove_leftovers(layout: Layout) -> None:
    """Remove unfinished files of interrupted writers from the disk; call it holding the repository's lock."""
    for path in layout.objects.glob(f"{_INCOMING}*"):
        path.unlink(missing_ok=True)


def check_object(path: Path, stored: StoredObject, artifact: Artifact) -> tuple[str, ...]:
    """The problem with an object's file, read only: its own hash and length, then those of its decompressed content."""
    if not path.is_file():
        return (f"{stored.path} is missing",)
    size = path.stat().st_size
    if size != stored.size_bytes:
        return (f"{stored.path} has {size} bytes, not {stored.size_bytes}",)
    digest = file_sha256(path)
    if digest != stored.sha256:
        return (f"{stored.path}: the content has the SHA-256 {digest}, which is not the name",)
    return tuple(f"{stored.path} {problem}" for problem in _content_problems(path, stored, artifact))


def read_object(path: Path, stored: StoredObject, artifact: Artifact) -> bytes:
    """The content an object carries, all of it in memory: for documents, after `check_object` found nothing.

    Raises:
        RefusedError: It is not what was signed.
        OSError: It cannot be read.
    """
    problems = check_object(path, stored, artifact)
    if problems:
        raise RefusedError("\n".join(problems))
    with path.open("rb") as stream:
        return b"".join(_unpacked(stream, stored.compression))


def extract_object(path: Path, stored: StoredObject, artifact: Artifact, target: Path) -> None:
    """Write the content an object carries to a file of its own, after everything about it was checked.

    Raises:
        RefusedError: It is not what was signed; nothing was written.
        OSError: It cannot be read or written.
    """
    if problems := check_object(path, stored, artifact):
        raise RefusedError("\n".join(problems))
    with path.open("rb") as stream, target.open("xb") as sink:
        for chunk in _unpacked(stream, stored.compression):
            sink.write(chunk)


def check_file(path: Path, artifact: Artifact, progress: Progress) -> tuple[str, ...]:
    """The problem with a plain artifact's file, read only."""
    if not path.is_file():
        return (f"{path} is missing",)
    size = path.stat().st_size
    if size != artifact.size_bytes:
        return (f"{path} has {size} bytes, and the release says {artifact.size_bytes}",)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in _chunks(stream):
            digest.update(chunk)
            progress.advance(len(chunk))
    if digest.hexdigest() != artifact.sha256:
        return (f"{path} has the SHA-256 {digest.hexdigest()}, and the release says {artifact.sha256}",)
    return ()


class _HashingReader:
    """Passes on a file's bytes, hashes them and reports progress."""

    def __init__(self, stream: BinaryIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self.digest.update(chunk)
        self._progress.advance(len(chunk))
        return chunk


class _HashingWriter:
    """Writes bytes to a file, hashing and counting them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> int:
        self.digest.update(chunk)
        self.size_bytes += len(chunk)
        return self._stream.write(chunk)


def _compress(source: Path, artifact: Artifact, target: Path, *, level: int, progress: Progress) -> StoredObject:
    compressor = zstandard.ZstdCompressor(compression_params=_parameters(level, artifact.size_bytes))
    with source.open("rb") as stream, target.open("xb") as sink:
        reader, writer = _HashingReader(stream, progress), _HashingWriter(sink)
        try:
            compressor.copy_stream(
                cast("BinaryIO", reader),
                cast("BinaryIO", writer),
                size=artifact.size_bytes,
                read_size=_CHUNK_BYTES,
                write_size=_CHUNK_BYTES,
            )
        except zstandard.ZstdError as error:
            # Its only possible error: a number of bytes other than announced.
            raise _changed(source) from error
        _synced(sink)
    if reader.digest.hexdigest() != artifact.sha256:
        raise _changed(source)
    return StoredObject(writer.digest.hexdigest(), writer.size_bytes, Compression.ZSTD)


def _copy(source: Path, artifact: Artifact, target: Path) -> StoredObject:
    digest = hashlib.sha256()
    size = 0
    with source.open("rb") as stream, target.open("wb") as sink:
        for chunk in _chunks(stream):
            digest.update(chunk)
            size += sink.write(chunk)
        _synced(sink)
    if digest.hexdigest() != artifact.sha256:
        raise _changed(source)
    return StoredObject(artifact.sha256, size, Compression.NONE)


def _settle(layout: Layout, incoming: Path, stored: StoredObject) -> bool:
    """Give a synced file its name (writes to the disk); False when a file with the same content has it already."""
    path = layout.object_file(stored)
    if path.exists() and file_sha256(path) == stored.sha256:
        return False
    path.parent.mkdir(exist_ok=True)
    incoming.chmod(0o644)
    incoming.replace(path)
    sync_folder(path.parent)
    sync_folder(layout.objects)
    return True


def _content_problems(path: Path, stored: StoredObject, artifact: Artifact) -> tuple[str, ...]:
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as stream:
            for chunk in _unpacked(stream, stored.compression):
                size += len(chunk)
                # Bounded by what was signed: a small object can unpack to an endless one.
                if size > artifact.size_bytes:
                    return (f"unpacks to more than the signed {artifact.size_bytes} bytes",)
                digest.update(chunk)
    except zstandard.ZstdError as error:
        return (f"cannot be unpacked: {error}",)
    if size != artifact.size_bytes:
        return (f"unpacks to {size} bytes, and {artifact.size_bytes} were signed",)
    if digest.hexdigest() != artifact.sha256:
        return (f"unpacks to the SHA-256 {digest.hexdigest()}, and {artifact.sha256} was signed",)
    return ()


def _unpacked(stream: BinaryIO, compression: Compression) -> Iterator[bytes]:
    if compression is Compression.NONE:
        yield from _chunks(stream)
        return
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
    with decompressor.stream_reader(stream, read_across_frames=True, closefd=False) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


def _parameters(level: int, size_bytes: int) -> zstandard.ZstdCompressionParameters:
    if not 1 <= level <= MAX_LEVEL:
        raise RepositoryError(f"the compression level must be from 1 to {MAX_LEVEL}, not {level}")
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=size_bytes,
        window_log=WINDOW_LOG,
        threads=min(_MAX_THREADS, os.cpu_count() or 1),
        write_checksum=True,
        write_content_size=True,
    )


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _told(stream: BinaryIO, progress: Progress) -> Iterator[bytes]:
    for chunk in _chunks(stream):
        yield chunk
        progress.advance(len(chunk))


def _synced(sink: BinaryIO) -> None:
    sink.flush()
    os.fsync(sink.fileno())


def _changed(source: Path) -> RefusedError:
    return RefusedError(f"{source} changed while it was being published")
