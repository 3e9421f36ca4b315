"""Verified metadata are kept, on the disk or in memory, and nothing that was seen is forgotten in between."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from updater.agent.kept_metadata import MAX_METADATA_BYTES, ROOM_BYTES, usable_folder


@contextmanager
def disk_that_takes_nothing() -> Iterator[None]:
    """Files cannot grow; what is kept in memory in these tests is small."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES - 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    """The folder on the disk, with what is known."""
    folder = tmp_path / "lib/tuf"
    (folder / "root_history").mkdir(parents=True)
    (folder / "timestamp.json").write_text("7")
    (folder / "root_history/1.root.json").write_text("root")
    (folder / "root.json").symlink_to("root_history/1.root.json")
    return folder


@pytest.fixture
def volatile(tmp_path: Path) -> Path:
    return tmp_path / "run/tuf"


def test_a_disk_that_takes_metadata_keeps_them(tmp_path: Path, volatile: Path) -> None:
    assert usable_folder(tmp_path / "new/tuf", volatile) == tmp_path / "new/tuf"
    assert list((tmp_path / "new/tuf").iterdir()) == []
    assert not volatile.exists()


def test_a_full_disk_makes_the_host_go_on_in_memory_with_what_it_knows(
    usual: Path, volatile: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with disk_that_takes_nothing():
        assert usable_folder(usual, volatile) == volatile
        assert (volatile / "timestamp.json").read_text() == "7"
        assert (volatile / "root.json").read_text() == "root"
        (volatile / "timestamp.json").write_text("8")
        # The next refresh goes on from what this one saw.
        assert usable_folder(usual, volatile) == volatile
        assert (volatile / "timestamp.json").read_text() == "8"
    assert f"{usual} cannot be written (File too large)" in caplog.text
    assert (usual / "timestamp.json").read_text() == "7"


def test_what_was_seen_in_memory_moves_to_the_disk_when_that_takes_it_again(usual: Path, volatile: Path) -> None:
    with disk_that_takes_nothing():
        usable_folder(usual, volatile)
        (volatile / "timestamp.json").write_text("8")
        (volatile / "root_history/2.root.json").write_text("newer root")
    assert usable_folder(usual, volatile) == usual
    assert (usual / "timestamp.json").read_text() == "8"
    assert (usual / "root_history/2.root.json").read_text() == "newer root"
    assert not volatile.exists()


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path, volatile: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert usable_folder(tmp_path / "file/tuf", volatile) == volatile
    assert list(volatile.iterdir()) == []


def put_foreign(folder: Path) -> set[Path]:
    """What the library would wait for, read without end or fail on."""
    for name in ("targets.json", "root_history/2.root.json"):
        os.mkfifo(folder / name)
    with (folder / "snapshot.json").open("wb") as stream:
        stream.truncate(MAX_METADATA_BYTES + 1)
    (folder / "channels.json").symlink_to("/dev/zero")
    (folder / "releases.json/deep").mkdir(parents=True)
    (folder / "root_history/root_history").mkdir()
    names = ("targets", "snapshot", "channels", "releases", "root_history/2.root")
    return {*(folder / f"{name}.json" for name in names), folder / "root_history/root_history"}


def all_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_is_not_metadata_is_removed_before_anybody_reads_it(usual: Path, volatile: Path) -> None:
    before = all_in(usual)
    put_foreign(usual)
    usable_folder(usual, volatile)
    assert all_in(usual) == before


def test_what_is_not_metadata_is_not_taken_into_memory(usual: Path, volatile: Path) -> None:
    before = all_in(usual)
    put_foreign(usual)
    with disk_that_takes_nothing():
        usable_folder(usual, volatile)
    assert all_in(volatile) == before


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_folder_gives_way_to_one(usual: Path, volatile: Path, make: Callable[[Path], None]) -> None:
    shutil.rmtree(usual)
    make(usual)
    assert usable_folder(usual, volatile) == usual
    assert usual.is_dir()


def test_a_copy_that_was_cut_short_is_made_anew(usual: Path, volatile: Path) -> None:
    partial = volatile.with_name("tuf.partial")
    partial.mkdir(parents=True)
    (partial / "timestamp.json").write_text("ha")
    with disk_that_takes_nothing():
        assert usable_folder(usual, volatile) == volatile
    assert (volatile / "timestamp.json").read_text() == "7"
    assert not partial.exists()


def test_looking_leaves_nothing_behind(usual: Path, volatile: Path) -> None:
    before = sorted(usual.rglob("*"))
    usable_folder(usual, volatile)
    with disk_that_takes_nothing():
        usable_folder(usual, volatile)
    assert sorted(usual.rglob("*")) == before


def test_without_any_place_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="Not a directory"):
        usable_folder(tmp_path / "file/a", tmp_path / "file/b")
