"""The artifacts of a release: brought, checked and kept before anything is given up, and never believed before that."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import zstandard

from bedrock.progress import Silent
from partitions.version import Version
from tests.fakes.http_server import Site, raw, serving
from tests.fakes.network import LocalNetwork
from tests.fakes.tampering import flip_bits, flipped
from updater.agent.objects import PROBE_BYTES, ObjectSource, chosen_object
from updater.agent.spool import Spool
from updater.documents.release import Architecture, Artifact, Artifacts, Compression, Release, StoredObject
from updater.errors import FetchError, RefusedError
from updater.transfer.unpacking import PIECE_BYTES

UKI = os.urandom(97 << 12)
ROOT = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(1 << 15)) + bytes(1 << 20)
TREE = os.urandom(12 << 12)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Collected:
    def __init__(self) -> None:
        self.data = bytearray()
        self.largest = 0

    def write(self, data: bytes | memoryview) -> None:
        self.data += data
        self.largest = max(self.largest, len(data))


def carried(content: bytes, stored: bytes | None = None, compression: Compression = Compression.ZSTD) -> Artifact:
    """An artifact and the one object that carries it, which is `stored`."""
    packed = stored if stored is not None else packed_as(content, compression)
    return Artifact(sha(content), len(content), (StoredObject(sha(packed), len(packed), compression),))


def packed_as(content: bytes, compression: Compression) -> bytes:
    return zstandard.compress(content, 3) if compression is Compression.ZSTD else content


class Put:
    """A release on a site, and the host's folder for what it keeps."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.spool = Spool(folder / "spool")
        self.others: list[Site] = []
        self.networks: list[LocalNetwork] = []
        self.contents = {"uki": UKI, "root": ROOT, "verity": TREE}
        self.artifacts: dict[str, Artifact] = {}
        for which, content in self.contents.items():
            self.put(which, packed_as(content, Compression.ZSTD))

    def put(self, which: str, stored: bytes, compression: Compression = Compression.ZSTD) -> str:
        """Carry an artifact by these bytes; gives the path on the site."""
        self.artifacts[which] = carried(self.contents[which], stored, compression)
        self.site.files[self.path(which)] = stored
        return self.path(which)

    def path(self, which: str) -> str:
        return f"/{self.artifacts[which].objects[0].path}"

    @property
    def release(self) -> Release:
        artifacts = Artifacts(**self.artifacts)
        return Release(1, "host", Version("1.0.1"), Architecture.X86_64, "ab" * 32, artifacts)

    def network(self) -> LocalNetwork:
        self.networks.append(LocalNetwork([site.url for site in (self.site, *self.others)]))
        return self.networks[-1]

    def source(self) -> ObjectSource:
        """As after a restart: what is in the folder is all that is known."""
        return ObjectSource(self.network(), self.spool, self.network)

    def prepared(self) -> ObjectSource:
        source = self.source()
        source.prepare(self.release, Silent())
        return source

    def requests(self, which: str) -> list[str | None]:
        return [wanted for path, wanted in self.site.requests if path == self.path(which)]

    def kept(self, which: str) -> Path:
        return self.spool.folder / self.artifacts[which].objects[0].sha256


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Put]:
    with serving(Site()) as site:
        yield Put(site, tmp_path)


@pytest.fixture
def without_room(put: Put, tmp_path: Path) -> Put:
    """A host that cannot keep anything."""
    (tmp_path / "file").write_text("no folder")
    put.spool = Spool(tmp_path / "file" / "spool")
    return put


def copy(source: ObjectSource, artifact: Artifact, *, hash_raw: bool = True) -> Collected:
    sink = Collected()
    source.copy(artifact, sink, Silent(), hash_raw=hash_raw)
    return sink


def test_all_of_an_update_is_kept_and_checked_before_it_is_written(put: Put) -> None:
    source = put.prepared()
    assert source.transferred_bytes == sum(len(content) for content in put.site.files.values())
    # A worker that a server may have taken over unpacks nothing.
    assert (put.networks[0].closed, put.networks[0].unpacked) == (1, [])
    put.site.files.clear()
    for which, content in put.contents.items():
        got = copy(source, put.artifacts[which])
        assert bytes(got.data) == content
        assert got.largest <= PIECE_BYTES
    assert put.networks[0].unpacked == [False] * 3
    source.clear()
    assert list(put.spool.folder.iterdir()) == []


def test_a_host_without_room_takes_the_first_bytes_first_and_then_all_of_it_as_it_comes(without_room: Put) -> None:
    put = without_room
    source = put.prepared()
    probed = put.site.sent_bytes
    assert probed <= 3 * PROBE_BYTES
    for which, content in put.contents.items():
        got = copy(source, put.artifacts[which])
        assert bytes(got.data) == content
        assert got.largest <= PIECE_BYTES
    assert put.requests("root")[-1] is None
    assert put.networks[0].unpacked[-3:] == [True] * 3
    assert all(network.closed for network in put.networks[1:])
    source.clear()


@pytest.mark.parametrize("compression", list(Compression))
def test_a_probe_takes_the_first_bytes_and_no_more(without_room: Put, compression: Compression) -> None:
    noise = os.urandom(4 << 20)
    without_room.contents["root"] = noise
    without_room.put("root", packed_as(noise, compression), compression)
    without_room.prepared()
    assert without_room.requests("root") == [f"bytes=0-{PROBE_BYTES - 1}"]


@pytest.mark.parametrize("fits", [False, True])
@pytest.mark.parametrize("which", ["uki", "root", "verity"])
def test_what_is_missing_too_long_too_short_or_something_else_is_found_before_anything_is_written(
    put: Put, tmp_path: Path, which: str, *, fits: bool
) -> None:
    if not fits:
        (tmp_path / "file").write_text("no folder")
        put.spool = Spool(tmp_path / "file" / "spool")
    path, content = put.path(which), put.site.files[put.path(which)]
    del put.site.files[path]
    with pytest.raises(FetchError, match="404"):
        put.prepared()
    for wrong in (content + b"x", content[:-1]):
        put.site.files[path] = wrong
        with pytest.raises(RefusedError, match="signed"):
            put.prepared()
    put.site.files[path] = b"<html>log in</html>".ljust(len(content))
    with pytest.raises(RefusedError, match=r"not the signed one|cannot be unpacked"):
        put.prepared()
    put.site.files[path] = content
    put.site.status[path] = [503]
    put.prepared()


def test_an_uncompressed_object_is_taken_too(put: Put) -> None:
    put.put("root", ROOT, Compression.NONE)
    assert bytes(copy(put.prepared(), put.artifacts["root"]).data) == ROOT


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_anywhere_is_refused_and_nothing_of_it_is_kept(put: Put, place: int) -> None:
    path = put.path("root")
    put.site.files[path] = flipped(put.site.files[path], place)
    with pytest.raises(RefusedError, match=r"has hash [0-9a-f]{64}, not the signed one"):
        put.prepared()
    assert put.kept("root").stat().st_size == 0


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_in_what_arrives_meanwhile_is_refused(without_room: Put, place: int) -> None:
    source = without_room.prepared()
    path = without_room.path("verity")
    without_room.site.files[path] = flipped(without_room.site.files[path], place)
    with pytest.raises(RefusedError):
        copy(source, without_room.artifacts["verity"], hash_raw=False)


def test_a_download_goes_on_after_a_restart_with_what_is_missing(put: Put) -> None:
    path, content = put.path("root"), put.site.files[put.path("root")]
    half = len(content) // 2

    def half_and_gone(handler: BaseHTTPRequestHandler) -> None:
        raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode(), content[:half])(handler)
        put.site.special[path] = raw(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")

    put.site.special[path] = half_and_gone
    with pytest.raises(FetchError, match="404"):
        put.prepared()
    assert put.kept("root").read_bytes() == content[:half]
    del put.site.special[path]
    put.site.requests.clear()
    source = put.prepared()
    assert put.requests("root") == [f"bytes={half}-{len(content) - 1}"]
    assert put.requests("uki") == []
    assert source.transferred_bytes == len(content) - half + put.artifacts["verity"].objects[0].size_bytes
    assert bytes(copy(source, put.artifacts["root"]).data) == ROOT


def test_what_is_whole_is_not_asked_for_again(put: Put) -> None:
    put.prepared()
    put.site.requests.clear()
    assert put.prepared().transferred_bytes == 0
    assert put.site.requests == []


def test_what_was_kept_and_damaged_is_fetched_anew(put: Put) -> None:
    put.prepared()
    flip_bits(put.kept("root"), 1000)
    put.site.requests.clear()
    source = put.prepared()
    assert put.requests("root") == [None]
    assert bytes(copy(source, put.artifacts["root"]).data) == ROOT


def test_a_kept_part_that_is_damaged_costs_one_more_transfer_and_is_not_held_against_the_server(put: Put) -> None:
    put.prepared()
    kept = put.kept("root")
    kept.write_bytes(flipped(kept.read_bytes()[:5000], 7))
    put.site.requests.clear()
    assert bytes(copy(put.prepared(), put.artifacts["root"]).data) == ROOT
    assert len(put.requests("root")) == 2


def test_another_server_is_asked_for_what_one_has_wrong(put: Put) -> None:
    path = put.path("root")
    with serving(Site(files=dict(put.site.files))) as other:
        put.others = [other]
        put.site.files[path] = flipped(put.site.files[path])
        assert bytes(copy(put.prepared(), put.artifacts["root"]).data) == ROOT
        assert [asked for asked, _ in other.requests].count(path) == 1


def breaking_off(content: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Wrong bytes up to nine tenths, whatever is asked for."""
    wrong = flipped(content, 100)[: len(content) * 9 // 10]
    return raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode(), wrong)


@pytest.mark.parametrize(("count", "liars"), [(2, (0,)), (2, (1,)), (3, (0, 2))])
def test_wrong_bytes_of_one_server_are_never_completed_by_another(put: Put, count: int, liars: tuple[int, ...]) -> None:
    with serving(Site(files=dict(put.site.files))) as second, serving(Site(files=dict(put.site.files))) as third:
        put.others = [second, third][: count - 1]
        sites = (put.site, second, third)
        honest = next(site for site in sites if sites.index(site) not in liars)
        for liar in (sites[number] for number in liars):
            liar.special = {path: breaking_off(content) for path, content in honest.files.items()}
        source = put.prepared()
        for which, content in put.contents.items():
            assert bytes(copy(source, put.artifacts[which]).data) == content


def test_nothing_stays_of_an_object_that_no_server_has_right(put: Put) -> None:
    path = put.path("root")
    put.site.special[path] = breaking_off(put.site.files[path])
    with serving(Site(files={**put.site.files, path: flipped(put.site.files[path])})) as other:
        put.others = [other]
        with pytest.raises(RefusedError, match="not the signed one"):
            put.prepared()
    assert put.kept("root").stat().st_size == 0


def test_a_wrong_object_on_every_server_is_asked_for_a_bounded_number_of_times(put: Put) -> None:
    path = put.path("root")
    put.site.files[path] = flipped(put.site.files[path])
    with serving(Site(files=dict(put.site.files))) as other:
        put.others = [other]
        with pytest.raises(RefusedError):
            put.prepared()
        assert len(put.requests("root")) + len(other.requests) <= 3


def test_objects_of_another_update_are_removed(put: Put) -> None:
    put.spool.folder.mkdir()
    (put.spool.folder / ("ab" * 32)).write_bytes(b"old")
    put.prepared()
    names = {artifact.objects[0].sha256 for artifact in put.artifacts.values()}
    assert {path.name for path in put.spool.folder.iterdir()} == names


def test_what_is_no_object_is_removed_and_makes_no_host_stream(put: Put, caplog: pytest.LogCaptureFixture) -> None:
    (put.spool.folder / "folder/deep").mkdir(parents=True)
    os.mkfifo(put.spool.folder / "fifo")
    put.kept("root").mkdir()
    os.mkfifo(put.kept("uki"))
    put.prepared()
    assert put.kept("root").is_file()
    assert len(list(put.spool.folder.iterdir())) == 3
    assert "while it arrives" not in caplog.text


def test_a_host_that_streams_says_why(without_room: Put, caplog: pytest.LogCaptureFixture) -> None:
    without_room.prepared()
    assert "cannot keep the update (Not a directory): it is installed while it arrives" in caplog.text


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """A disk that takes no file longer than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_in_the_middle_does_not_end_the_update(put: Put, caplog: pytest.LogCaptureFixture) -> None:
    with files_at_most(500_000):
        source = put.prepared()
        assert bytes(copy(source, put.artifacts["root"]).data) == ROOT
    assert "takes no more of the update (File too large)" in caplog.text
    assert list(put.spool.folder.iterdir()) == []


def test_a_folder_that_is_a_symbolic_link_somewhere_is_not_followed(put: Put, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    put.spool.folder.mkdir()
    put.kept("root").symlink_to(victim)
    source = put.prepared()
    assert victim.read_bytes() == b"precious"
    assert bytes(copy(source, put.artifacts["root"]).data) == ROOT


def test_an_object_that_unpacks_to_more_than_signed_is_refused_in_bounded_memory(put: Put) -> None:
    put.put("root", zstandard.compress(bytes(256 << 20), 3))
    source, sink = put.prepared(), Collected()
    with pytest.raises(RefusedError, match="more than"):
        source.copy(put.artifacts["root"], sink, Silent(), hash_raw=False)
    assert len(sink.data) <= len(ROOT)


def test_an_object_that_unpacks_to_less_than_signed_is_refused(put: Put) -> None:
    put.put("root", zstandard.compress(ROOT[:-1], 3))
    with pytest.raises(RefusedError, match="1 bytes less"):
        copy(put.prepared(), put.artifacts["root"], hash_raw=False)


def test_other_raw_bytes_of_the_right_length_are_refused(put: Put) -> None:
    put.put("root", zstandard.compress(bytes(len(ROOT)), 3))
    with pytest.raises(RefusedError, match="has the hash"):
        copy(put.prepared(), put.artifacts["root"])


def test_a_server_that_goes_away_in_the_middle_of_a_stream_is_why_it_failed(without_room: Put) -> None:
    source = without_room.prepared()
    for which in ("root", "verity"):
        del without_room.site.files[without_room.path(which)]
        with pytest.raises(FetchError, match="404"):
            copy(source, without_room.artifacts[which])


def test_a_sink_that_cannot_be_written_ends_a_stream(without_room: Put) -> None:
    class Full:
        def write(self, data: bytes | memoryview) -> None:
            raise OSError(28, "No space left on device")

    source = without_room.prepared()
    with pytest.raises(OSError, match="No space left"):
        source.copy(without_room.artifacts["root"], Full(), Silent(), hash_raw=False)


def test_a_release_without_objects_is_refused() -> None:
    with pytest.raises(RefusedError, match="no object"):
        chosen_object(Artifact("ab" * 32, 1))


def test_the_smallest_object_is_chosen() -> None:
    large, small = (StoredObject("ab" * 32, size, Compression.ZSTD) for size in (9, 5))
    assert chosen_object(Artifact("ab" * 32, 10, (large, small))) is small


def test_artifacts_that_share_an_object_are_fetched_once(put: Put) -> None:
    put.artifacts["verity"] = replace(put.artifacts["uki"])
    put.contents["verity"] = UKI
    source = put.prepared()
    assert len(put.requests("uki")) == 1
    assert bytes(copy(source, put.artifacts["verity"]).data) == UKI
