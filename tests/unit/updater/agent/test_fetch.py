"""Objects over HTTP: resumed, bounded, and never believed before their hash matches."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import threading
from collections import deque
from collections.abc import Generator, Iterator

import pytest
import zstandard
from updater.agent.fetch import HttpSource
from updater.agent.http import pool
from updater.agent.prefetch import BATCH_CHUNKS, ahead
from urllib3.response import HTTPResponse

from bedrock.progress import Silent
from tests.fakes.clock import FakeClock
from tests.fakes.http_server import Site, serving
from updater.agent import fetch
from updater.agent.config import Timeouts
from updater.documents.release import Artifact, Compression, StoredObject
from updater.errors import FetchError, RefusedError

RAW = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(3 << 15)) + bytes(1 << 20)


class Collected:
    def __init__(self) -> None:
        self.data = bytearray()
        self.largest = 0

    def write(self, data: bytes | memoryview) -> None:
        self.data += data
        self.largest = max(self.largest, len(data))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def artifact(raw: bytes = RAW, stored: bytes | None = None) -> tuple[Artifact, bytes]:
    compressed = zstandard.compress(raw, 3) if stored is None else stored
    entry = StoredObject(sha(compressed), len(compressed), Compression.ZSTD)
    return Artifact(sha(raw), len(raw), (entry,)), compressed


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as started:
        yield started


def put(site: Site, what: Artifact, content: bytes) -> str:
    path = f"/{what.objects[0].path}"
    site.files[path] = content
    return path


def copy(site: Site, what: Artifact, *, hash_raw: bool = True, clock: FakeClock | None = None) -> Collected:
    http = pool(Timeouts(connect=5, read=5))
    sink = Collected()
    try:
        source = HttpSource(site.url, http, clock or FakeClock(), lambda: 0.0)
        assert source.copy(what, sink, Silent(), hash_raw=hash_raw) == what.objects[0].size_bytes
    finally:
        http.clear()
    return sink


def test_an_object_arrives_whole_and_in_bounded_pieces(site: Site) -> None:
    what, content = artifact()
    put(site, what, content)
    got = copy(site, what)
    assert bytes(got.data) == RAW
    assert got.largest <= fetch.RAW_CHUNK_BYTES


@pytest.mark.parametrize("compression", list(Compression))
def test_a_probe_takes_the_first_bytes_and_no_more(site: Site, compression: Compression) -> None:
    noise = os.urandom(16 << 20)
    stored = noise if compression is Compression.NONE else zstandard.compress(noise, 1)
    what = Artifact(sha(noise), len(noise), (StoredObject(sha(stored), len(stored), compression),))
    put(site, what, stored)
    http = pool(Timeouts(connect=5, read=5))
    HttpSource(site.url, http, FakeClock()).probe(what)
    http.clear()
    assert [wanted for _, wanted in site.requests] == [f"bytes=0-{fetch.PROBE_BYTES - 1}"]
    assert site.sent_bytes == fetch.PROBE_BYTES


def test_a_probe_of_a_server_that_knows_no_ranges_is_cut_off(site: Site) -> None:
    noise = os.urandom(16 << 20)
    what = Artifact(sha(noise), len(noise), (StoredObject(sha(noise), len(noise), Compression.NONE),))
    put(site, what, noise)
    site.no_ranges = True
    probe(site, what)
    # What the sockets between the two hold is all that is sent beyond the first bytes.
    assert site.sent_bytes < len(noise) // 2


def probe(site: Site, what: Artifact) -> None:
    http = pool(Timeouts(connect=5, read=5))
    try:
        HttpSource(site.url, http, FakeClock(), lambda: 0.0).probe(what)
    finally:
        http.clear()


def test_a_probe_finds_what_is_missing_too_long_too_short_or_something_else(site: Site) -> None:
    what, content = artifact()
    with pytest.raises(FetchError, match="404"):
        probe(site, what)
    for wrong in (content + b"x", content[:-1]):
        put(site, what, wrong)
        with pytest.raises(RefusedError, match="signed"):
            probe(site, what)
    put(site, what, b"<html>log in</html>".ljust(len(content)))
    with pytest.raises(RefusedError, match="cannot be decompressed"):
        probe(site, what)
    put(site, what, content)
    site.status[f"/{what.objects[0].path}"] = [503]
    probe(site, what)


def test_an_uncompressed_object_is_taken_too(site: Site) -> None:
    what = Artifact(sha(RAW), len(RAW), (StoredObject(sha(RAW), len(RAW), Compression.NONE),))
    put(site, what, RAW)
    assert bytes(copy(site, what).data) == RAW


@pytest.mark.parametrize("no_ranges", [False, True])
@pytest.mark.parametrize("hide_length", [False, True])
def test_a_broken_transfer_goes_on_where_it_stopped(site: Site, *, no_ranges: bool, hide_length: bool) -> None:
    what, content = artifact()
    path = put(site, what, content)
    site.no_ranges, site.hide_length = no_ranges, hide_length
    site.break_after[path] = [1_000_000, 700_000]
    clock = FakeClock()
    assert bytes(copy(site, what, clock=clock).data) == RAW
    assert [wanted for _, wanted in site.requests][:2] == [None, "bytes=1000000-"]
    assert len(site.requests) == 3
    assert len(clock.slept) == 2


def test_a_server_that_stays_away_is_given_up_after_bounded_tries(site: Site) -> None:
    what, content = artifact()
    path = put(site, what, content)
    site.break_after[path] = [1000] * 100
    with pytest.raises(FetchError, match="after 6 tries"):
        copy(site, what)
    assert len(site.requests) == 6


def test_a_busy_server_is_asked_again(site: Site) -> None:
    what, content = artifact()
    path = put(site, what, content)
    site.status[path] = [503, 429]
    assert bytes(copy(site, what).data) == RAW


def test_a_missing_object_is_told_at_once(site: Site) -> None:
    what, _ = artifact()
    with pytest.raises(FetchError, match="answers 404"):
        copy(site, what)
    assert len(site.requests) == 1


def test_a_server_that_is_not_there_is_told() -> None:
    what, _ = artifact()
    with pytest.raises(FetchError, match="cannot be reached"):
        copy(Site(url="http://127.0.0.1:1"), what)


def test_a_flipped_bit_is_refused_even_if_it_decompresses(site: Site) -> None:
    raw = bytes(range(256)) * 20
    what, content = artifact(raw, zstandard.compress(raw, 1))
    other = bytearray(raw)
    other[5] ^= 1
    swapped = zstandard.compress(bytes(other), 1).ljust(len(content), b"\0")[: len(content)]
    put(site, what, swapped)
    with pytest.raises(RefusedError):
        copy(site, what, hash_raw=False)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_anywhere_is_refused(site: Site, place: int) -> None:
    what, content = artifact()
    damaged = bytearray(content)
    damaged[place] ^= 0x10
    put(site, what, bytes(damaged))
    with pytest.raises(RefusedError):
        copy(site, what, hash_raw=False)


@pytest.mark.parametrize("hide_length", [False, True])
def test_a_longer_object_is_refused_and_not_read_to_its_end(site: Site, *, hide_length: bool) -> None:
    what, content = artifact()
    put(site, what, content + bytes(64 << 20))
    site.hide_length = hide_length
    with pytest.raises(RefusedError, match="longer"):
        copy(site, what)
    assert site.sent_bytes < 32 << 20


def test_a_truncated_object_is_refused(site: Site) -> None:
    what, content = artifact()
    put(site, what, content[:-1])
    with pytest.raises(RefusedError, match="shorter"):
        copy(site, what)


def test_a_truncated_object_of_unknown_length_ends_too(site: Site) -> None:
    what, content = artifact()
    put(site, what, content[:-1])
    site.hide_length = True
    site.no_ranges = True
    with pytest.raises(FetchError, match="early"):
        copy(site, what)


def test_an_object_that_unpacks_to_more_than_signed_is_refused_in_bounded_memory(site: Site) -> None:
    bomb = zstandard.compress(bytes(256 << 20), 3)
    what, _ = artifact(RAW, bomb)
    put(site, what, bomb)
    sink = Collected()
    http = pool(Timeouts())
    with pytest.raises(RefusedError, match="more than"):
        HttpSource(site.url, http, FakeClock()).copy(what, sink, Silent(), hash_raw=False)
    http.clear()
    assert len(sink.data) <= len(RAW)


def test_an_object_that_unpacks_to_less_than_signed_is_refused(site: Site) -> None:
    what, content = artifact(RAW, zstandard.compress(RAW[:-1], 3))
    put(site, what, content)
    with pytest.raises(RefusedError, match="1 bytes less"):
        copy(site, what, hash_raw=False)


def test_other_raw_bytes_of_the_right_length_are_refused(site: Site) -> None:
    what, content = artifact(RAW, zstandard.compress(bytes(len(RAW)), 3))
    put(site, what, content)
    with pytest.raises(RefusedError, match="signed is"):
        copy(site, what)


def test_an_object_that_wants_a_large_window_is_refused(site: Site) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=26)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = packer.compress(RAW) + packer.flush()
    what, _ = artifact(RAW, content)
    put(site, what, content)
    with pytest.raises(RefusedError, match="cannot be decompressed"):
        copy(site, what)


def test_a_release_without_objects_is_refused() -> None:
    with pytest.raises(RefusedError, match="no object"):
        fetch.chosen_object(Artifact("ab" * 32, 1))


def test_the_smallest_object_is_chosen() -> None:
    large, small = (StoredObject("ab" * 32, size, Compression.ZSTD) for size in (9, 5))
    assert fetch.chosen_object(Artifact("ab" * 32, 10, (large, small))) is small


@pytest.mark.parametrize("tries", range(1, 12))
def test_pauses_grow_and_stay_bounded(tries: int) -> None:
    assert 0.5 <= fetch.pause_s(tries, 0.0) <= fetch.pause_s(tries, 0.99) <= fetch.LONGEST_PAUSE_S


def test_a_stage_that_runs_ahead_hands_its_error_over() -> None:
    def stage() -> Generator[bytes, None, None]:
        yield b"one"
        raise FetchError("broken")

    chunks = ahead(stage(), depth=1, name="test")
    assert next(chunks) == b"one"
    with pytest.raises(FetchError, match="broken"):
        next(chunks)


@pytest.mark.parametrize(("chunk", "most"), [(bytes(64 << 10), 16), (b"x", BATCH_CHUNKS)])
def test_a_stage_runs_ahead_by_bounded_batches(chunk: bytes, most: int) -> None:
    made = threading.Semaphore(0)

    def stage() -> Generator[bytes, None, None]:
        while True:
            made.release()
            yield chunk

    chunks = ahead(stage(), depth=1, name="test")
    assert next(chunks) == chunk
    # One batch taken, one queued, one held by the stage; then nothing until the next is wanted.
    for _ in range(3 * most):
        assert made.acquire(timeout=60)
    assert not made.acquire(timeout=0.2)
    assert isinstance(chunks, Generator)
    chunks.close()


def test_a_consumer_that_stops_early_stops_the_stage() -> None:
    closed = threading.Event()

    def stage() -> Generator[bytes, None, None]:
        try:
            while True:
                yield b"more"
        finally:
            closed.set()

    chunks = ahead(stage(), depth=2, name="test")
    assert next(chunks) == b"more"
    assert isinstance(chunks, Generator)
    chunks.close()
    assert closed.wait(60)


def test_a_transfer_that_trickles_is_given_up() -> None:
    clock = FakeClock()

    class Trickle(io.RawIOBase):
        """Gives a byte a second, for ever."""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            clock.sleep(1.0)
            buffer[0] = 0
            return 1

    response = HTTPResponse(io.BufferedReader(Trickle()), preload_content=False, status=200)
    taken = fetch._bounded(response, "http://server/object", clock, skip=0, wanted=1 << 30)
    with pytest.raises(fetch._BrokenError, match="brought only"):
        deque(itertools.islice(taken, int(2 * fetch.PROGRESS_WITHIN_S)), maxlen=0)
