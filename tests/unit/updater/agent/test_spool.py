"""What is kept of objects: as long as it can be what was signed, and durable as it grows."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.clock import FakeClock
from updater.agent.spool import SPARE_BYTES, Kept, Spool
from updater.documents.release import Compression, StoredObject

CONTENT = os.urandom(9 << 20)
STORED = StoredObject(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), Compression.NONE)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "lib/spool")
    assert made.has_room((STORED,))
    return made


def file_of(spool: Spool) -> Path:
    return spool.folder / STORED.sha256


def test_parts_add_up_to_the_object(spool: Spool) -> None:
    for start in range(0, len(CONTENT), 3 << 20):
        with spool.appending(STORED) as kept:
            assert (kept.size_bytes, kept.is_whole()) == (start, False)
            kept.add(memoryview(CONTENT)[start : start + (3 << 20)])
    with spool.appending(STORED) as kept:
        assert kept.is_whole()
    with spool.reading(STORED) as handle:
        assert os.pread(handle, len(CONTENT), 0) == CONTENT
    assert file_of(spool).stat().st_mode & 0o777 == 0o600
    assert spool.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["longer", "other"])
def test_what_cannot_be_the_beginning_of_the_object_is_removed(spool: Spool, what: str) -> None:
    file_of(spool).write_bytes(CONTENT + b"x" if what == "longer" else bytes(len(CONTENT)))
    with spool.appending(STORED) as kept:
        assert (kept.size_bytes, kept.is_whole()) == (0, False)
    assert file_of(spool).read_bytes() == b""


def test_a_shorter_file_with_other_bytes_shows_when_it_is_whole(spool: Spool) -> None:
    file_of(spool).write_bytes(bytes(1000))
    with spool.appending(STORED) as kept:
        kept.add(memoryview(CONTENT)[1000:])
        assert kept.size_bytes == len(CONTENT)
        assert not kept.is_whole()
        assert kept.sha256 != STORED.sha256
        kept.restart()
        kept.add(memoryview(CONTENT))
        assert kept.is_whole()


def test_bytes_are_synced_as_they_grow(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(os.fstat(handle).st_size))
    clock = FakeClock()
    slow = Spool(spool.folder, clock)
    with slow.appending(STORED) as kept:
        for start in range(0, len(CONTENT), 1 << 16):
            clock.sleep(0.25)
            kept.add(memoryview(CONTENT)[start : start + (1 << 16)])
    # On a slow line each second counts, and on a fast one each 16 MiB.
    assert synced == list(range(1 << 18, len(CONTENT) + 1, 1 << 18))
    large = replace(STORED, sha256="ab" * 32, size_bytes=40 << 20)
    synced.clear()
    with slow.appending(large) as kept:
        for _ in range(40):
            kept.add(memoryview(bytes(1 << 20)))
    assert synced == [16 << 20, 32 << 20]


def test_there_is_room_while_something_is_left_for_others(spool: Spool) -> None:
    found = os.statvfs(spool.folder)
    free = found.f_bavail * found.f_frsize
    assert not spool.has_room((StoredObject("ab" * 32, free, Compression.NONE),))
    assert not spool.has_room((StoredObject("ab" * 32, free - SPARE_BYTES // 2, Compression.NONE),))


def test_what_is_kept_already_needs_no_room(spool: Spool) -> None:
    found = os.statvfs(spool.folder)
    free = found.f_bavail * found.f_frsize
    large = StoredObject("ab" * 32, free, Compression.NONE)
    with (spool.folder / large.sha256).open("wb") as stream:
        # A hole: it counts as kept and takes no room.
        stream.truncate(free)
    assert spool.has_room((large,))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file/spool")
    with pytest.raises(OSError, match="Not a directory"):
        spool.has_room((STORED,))
    spool.keep_only(())
    spool.clear()


def test_only_what_is_wanted_is_kept(spool: Spool) -> None:
    for name in (STORED.sha256, "ab" * 32, "leftover.tmp"):
        (spool.folder / name).write_bytes(b"x")
    spool.keep_only((STORED,))
    assert [path.name for path in spool.folder.iterdir()] == [STORED.sha256]
    spool.clear()
    assert list(spool.folder.iterdir()) == []


def test_a_folder_among_the_kept_objects_does_not_end_an_update(spool: Spool) -> None:
    (spool.folder / "folder/deep").mkdir(parents=True)
    spool.keep_only((STORED,))
    assert list(spool.folder.iterdir()) == []


def test_a_link_in_the_place_of_the_folder_costs_nobody_their_files(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    spool.folder.rmdir()
    spool.folder.symlink_to(tmp_path / "mine")
    spool.keep_only(())
    assert spool.has_room((STORED,))
    assert (tmp_path / "mine/file").exists()
    assert not spool.folder.is_symlink()


def test_a_symbolic_link_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    file_of(spool).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"), spool.appending(STORED):
        pass
    with pytest.raises(OSError, match="symbolic links"), spool.reading(STORED):
        pass


def test_a_file_that_shrinks_under_us_is_not_whole(spool: Spool) -> None:
    file_of(spool).write_bytes(CONTENT)
    handle = os.open(file_of(spool), os.O_RDWR)
    kept = Kept(handle, STORED, FakeClock())
    kept.read_back()
    assert kept.is_whole()
    kept.restart()
    assert (kept.size_bytes, kept.is_whole()) == (0, False)
    os.close(handle)
