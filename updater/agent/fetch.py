"""Fetches the objects that carry an artifact: bounded, checked, resumed, in constant memory.

Three stages run in parallel: transfer and hash, decompress, pass on.  It never reads more bytes than were signed.
The bytes reach the sink before the last of them is checked: the caller must make nothing bootable before `copy`
returned and the disk was read back.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, cast

import urllib3
import zstandard
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from bedrock.clock import Clock
from bedrock.progress import Progress
from updater.agent.http import RETRYABLE_STATUS, joined
from updater.agent.install import Sink
from updater.agent.prefetch import ahead
from updater.documents.release import Artifact, Compression, StoredObject
from updater.errors import FetchError, RefusedError

# The size that one read of a socket returns under load.  A larger buffer is memory mapped, mostly stays unfilled and
# is unmapped again, which cost more than the transfer itself.
CHUNK_BYTES = 64 << 10
RAW_CHUNK_BYTES = 1 << 20
MAX_WINDOW_BYTES = 8 << 20
# Enough to see that the server has an object and that it is what its name says.
PROBE_BYTES = 256 << 10
# A try counts as progress if it transferred this much, so that a long transfer over a poor line is not given up early.
PROGRESS_BYTES = 1 << 20
MAX_FRUITLESS_TRIES = 6
# A server that keeps sending, but almost nothing, is given up like a silent one.
PROGRESS_WITHIN_S = 300.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_OK, _PARTIAL = 200, 206


class _BrokenError(Exception):
    """The transfer stopped in a way that another try may fix."""


@dataclass
class HttpSource:
    """Objects below `base_url`; `jitter` gives numbers in [0, 1) that spread the pauses of many hosts."""

    base_url: str
    http: urllib3.PoolManager
    clock: Clock
    jitter: Callable[[], float] = field(default=random.random)

    def copy(self, artifact: Artifact, sink: Sink, progress: Progress, *, hash_raw: bool) -> int:
        """Write the artifact's raw bytes to `sink`; returns the number of bytes transferred.

        Raises:
            RefusedError: Hash or length differ from what is signed, or it does not decompress.
            FetchError: The server cannot be reached or stops answering.
        """
        stored = chosen_object(artifact)
        digest = hashlib.sha256() if hash_raw else None
        left = artifact.size_bytes
        with closing(self._raw(stored, artifact.size_bytes)) as chunks:
            for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    raise RefusedError(f"{stored.path} holds more than the {artifact.size_bytes} bytes signed")
                if digest is not None:
                    digest.update(chunk)
                sink.write(chunk)
                progress.advance(len(chunk))
        if left:
            raise RefusedError(f"{stored.path} holds {left} bytes less than the {artifact.size_bytes} signed")
        if digest is not None and digest.hexdigest() != artifact.sha256:
            raise RefusedError(f"{stored.path} holds {digest.hexdigest()}, signed is {artifact.sha256}")
        return stored.size_bytes

    def probe(self, artifact: Artifact) -> None:
        """Fetch the first bytes of the object, and decompress them; nothing is kept.

        Raises:
            RefusedError: The length is not the signed one, or it does not decompress.
            FetchError: The server cannot be reached or does not have it.
        """
        stored = chosen_object(artifact)
        first = self._first(stored, min(PROBE_BYTES, stored.size_bytes))
        if stored.compression is not Compression.NONE:
            next(decompressed(iter((first,)), stored.path, artifact.size_bytes), b"")

    def _first(self, stored: StoredObject, wanted: int) -> bytes:
        """The first bytes of an object; a server that answers with all of it is cut off after them."""
        url = joined(self.base_url, stored.path)
        for tries in range(1, MAX_FRUITLESS_TRIES + 1):
            try:
                return self._first_try(url, stored, wanted)
            except _BrokenError as error:
                if tries == MAX_FRUITLESS_TRIES:
                    raise FetchError(f"{url}: {error}, after {tries} tries") from error
                self.clock.sleep(pause_s(tries, self.jitter()))
        raise AssertionError("the last try returns or raises")

    def _first_try(self, url: str, stored: StoredObject, wanted: int) -> bytes:
        headers = {**self.http.headers, "Range": f"bytes=0-{wanted - 1}"}
        try:
            response = self.http.request("GET", url, headers=headers, preload_content=False, decode_content=False)
        except HTTPError as error:
            raise _BrokenError(f"cannot be reached: {error}") from error
        try:
            if response.status == _PARTIAL:
                told = response.headers.get("Content-Range", "")
                if told != f"bytes 0-{wanted - 1}/{stored.size_bytes}":
                    raise RefusedError(
                        f"{url} is not as long as signed: {stored.size_bytes} bytes, the server says {told!r}"
                    )
                return b"".join(_bounded(response, url, self.clock, skip=0, wanted=wanted))
            check_answer(response, url, 0, stored.size_bytes)
            first = b""
            for chunk in _bounded(response, url, self.clock, skip=0, wanted=stored.size_bytes):
                first += chunk
                if len(first) >= wanted:
                    break
            return first[:wanted]
        finally:
            response.close()

    def _raw(self, stored: StoredObject, raw_bytes: int) -> Generator[bytes, None, None]:
        transferred = ahead(self._transferred(stored), depth=3, name="transfer")
        if stored.compression is Compression.NONE:
            yield from transferred
            return
        yield from ahead(decompressed(transferred, stored.path, raw_bytes), depth=3, name="decompress")

    def _transferred(self, stored: StoredObject) -> Generator[bytes, None, None]:
        """The object's bytes as stored on the server, hashed; broken connections are resumed."""
        digest = hashlib.sha256()
        done, fruitless, credited = 0, 0, 0
        while done < stored.size_bytes:
            try:
                for chunk in self._one_try(stored, done):
                    digest.update(chunk)
                    done += len(chunk)
                    yield chunk
            except _BrokenError as error:
                if done - credited >= PROGRESS_BYTES:
                    fruitless, credited = 0, done
                fruitless += 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise FetchError(
                        f"{joined(self.base_url, stored.path)}: {error}, after {fruitless} tries"
                    ) from error
                self.clock.sleep(pause_s(fruitless, self.jitter()))
        if digest.hexdigest() != stored.sha256:
            raise RefusedError(
                f"{joined(self.base_url, stored.path)} has hash {digest.hexdigest()}, not the signed one"
            )

    def _one_try(self, stored: StoredObject, start: int) -> Iterator[bytes]:
        url = joined(self.base_url, stored.path)
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self.http.request(
                "GET", url, headers={**self.http.headers, **headers}, preload_content=False, decode_content=False
            )
        except HTTPError as error:
            raise _BrokenError(f"cannot be reached: {error}") from error
        try:
            skip = check_answer(response, url, start, stored.size_bytes)
            yield from _bounded(response, url, self.clock, skip=skip, wanted=stored.size_bytes - start)
        finally:
            # Closed, not returned to the pool: it may hold unread bytes.
            response.close()


def chosen_object(artifact: Artifact) -> StoredObject:
    """The object to fetch an artifact by: the smallest of those that carry it.

    Raises:
        RefusedError: The release names no object for it.
    """
    if not artifact.objects:
        raise RefusedError(f"the release names no object that carries artifact {artifact.sha256}")
    return min(artifact.objects, key=lambda stored: stored.size_bytes)


def check_answer(response: BaseHTTPResponse, url: str, start: int, size_bytes: int) -> int:
    """How many bytes of the answer to skip to get to `start`.

    Raises:
        RefusedError: The server gives a length other than the signed one.
        FetchError: The server refuses.
    """
    if response.status in RETRYABLE_STATUS:
        raise _BrokenError(f"the server answers {response.status}")
    if response.status not in (_OK, _PARTIAL):
        raise FetchError(f"{url}: the server answers {response.status}")
    resumed = response.status == _PARTIAL
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise FetchError(f"{url}: asked from byte {start} on, got {response.headers.get('Content-Range')!r}")
    length = response.headers.get("Content-Length", "")
    expected = size_bytes - start if resumed else size_bytes
    if length.isascii() and length.isdigit() and int(length) != expected:
        what = "longer" if int(length) > expected else "shorter"
        raise RefusedError(f"{url} is {what} than signed: {length} bytes instead of {expected}")
    return 0 if resumed else start


def decompressed(chunks: Iterator[bytes], name: str, raw_bytes: int) -> Generator[bytes, None, None]:
    """The raw bytes of a zstd stream, in pieces of bounded size, at most one piece more than `raw_bytes`.

    Raises:
        RefusedError: It is not zstd, is damaged, or needs more memory than allowed.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
        cast("IO[bytes]", _Readable(chunks)), read_size=CHUNK_BYTES, read_across_frames=True
    )
    left = raw_bytes
    try:
        while left >= 0:
            piece = reader.read(RAW_CHUNK_BYTES)
            if not piece:
                break
            left -= len(piece)
            yield piece
    except zstandard.ZstdError as error:
        raise RefusedError(f"{name} cannot be decompressed: {error}") from error
    for _ in chunks if left >= 0 else ():
        # Reading to the end lets the transfer check its hash.
        continue


def pause_s(tries: int, jitter: float) -> float:
    """Seconds before the next try: doubling, bounded, and spread over the upper half."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (tries - 1))) * (0.5 + jitter / 2)


def _bounded(response: BaseHTTPResponse, url: str, clock: Clock, *, skip: int, wanted: int) -> Iterator[bytes]:
    """Exactly `wanted` bytes after the first `skip`; another byte is an error, an early end causes another try."""
    waited, credited = 0.0, 0
    while wanted >= 0:
        asked = clock.steady()
        try:
            chunk = response.read1(min(CHUNK_BYTES, skip or wanted + 1))
        except HTTPError as error:
            raise _BrokenError(f"the transfer broke: {error}") from error
        if not chunk:
            break
        # Only the time spent waiting for the network counts, because the disk may be slow as well.
        waited, credited = waited + clock.steady() - asked, credited + len(chunk)
        if credited >= PROGRESS_BYTES:
            waited, credited = 0.0, 0
        elif waited > PROGRESS_WITHIN_S:
            raise _BrokenError(f"the transfer brought only {credited} bytes in {waited:.0f} s")
        if skip:
            skip -= len(chunk)
            continue
        wanted -= len(chunk)
        if wanted < 0:
            raise RefusedError(f"{url} is longer than signed")
        yield chunk
    if wanted:
        raise _BrokenError(f"the transfer ended {wanted} bytes early")


class _Readable:
    """Chunks as the file-like object the decompressor reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; empty at the end."""
        data = self._rest or next(self._chunks, b"")
        if size < 0:
            size = len(data)
        self._rest = data[size:]
        return data[:size]
