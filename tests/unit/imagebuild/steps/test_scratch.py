"""Where mkosi works: in memory or on the disk, alone, and gone at the end."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bedrock.locks import held_folder
from bedrock.process import Finished
from imagebuild.steps.scratch import Memory, keep_tree, scratch_folder
from tests.fakes.played_tools import Call, PlayedTools

MIB = 1 << 20


class PlayedTar(PlayedTools):
    """tar, which packs nothing."""

    def play(self, call: Call) -> Finished:
        (name,) = (word.removeprefix("--file=") for word in call.words if word.startswith("--file="))
        Path(name).touch()
        return call.end()


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """A folder that is taken for memory, of which there is plenty."""
    folder, info = tmp_path / "memory", tmp_path / "meminfo"
    folder.mkdir()
    # So much that only the file system itself can be too small.
    info.write_text(f"MemTotal: {1 << 50} kB\nMemAvailable: {1 << 50} kB\n")
    return Memory(folder, info)


def test_mkosi_works_in_memory_where_there_is_plenty(memory: Memory, tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "cache", download_bytes=MIB, memory=memory) as folder:
        assert folder.parent == memory.folder
        assert folder.stat().st_mode & 0o777 == 0o755
        (folder / "file").touch()
    assert not folder.exists()


@pytest.mark.parametrize("text", ["MemAvailable:   3000000 kB\n", "MemTotal:   99999999 kB\n"])
def test_mkosi_works_on_the_disk_where_memory_is_short_or_unknown(memory: Memory, tmp_path: Path, text: str) -> None:
    memory.info.write_text(text)
    with scratch_folder(tmp_path / "cache", download_bytes=MIB, memory=memory) as folder:
        assert folder.parent == tmp_path / "cache/scratch"
    assert not folder.exists()
    assert list(memory.folder.iterdir()) == []


def test_more_packages_need_more_memory(memory: Memory) -> None:
    memory.info.write_text(f"MemAvailable: {6 << 20} kB\n")
    assert memory.fits(50 * MIB)
    assert not memory.fits(500 * MIB)


def test_memory_that_is_too_small_a_file_system_is_not_used(memory: Memory) -> None:
    room = os.statvfs(memory.folder)
    assert not memory.fits(room.f_bavail * room.f_frsize)


def test_memory_that_cannot_be_written_is_not_used(memory: Memory, tmp_path: Path) -> None:
    assert not replace(memory, folder=tmp_path / "nowhere").fits(MIB)


def test_what_killed_builds_left_is_removed_wherever_it_lies(memory: Memory, tmp_path: Path) -> None:
    name = f"twinhull-{os.getuid()}-old"
    dead = (memory.folder / name, tmp_path / "cache/scratch" / name)
    living, foreign = memory.folder / f"twinhull-{os.getuid()}-living", memory.folder / "twinhull-4711-other"
    for folder in (*dead, living, foreign):
        folder.mkdir(parents=True)
    with held_folder(living), scratch_folder(tmp_path / "cache", download_bytes=MIB, memory=memory):
        assert [folder.exists() for folder in (*dead, living, foreign)] == [False, False, True, True]


def test_a_failure_leaves_nothing(memory: Memory, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        scratch_folder(tmp_path / "cache", download_bytes=MIB, memory=memory) as folder,
    ):
        raise KeyboardInterrupt
    assert not folder.exists()


def test_what_killed_builds_left_half_made_in_the_cache_is_removed(memory: Memory, tmp_path: Path) -> None:
    left = [tmp_path / "cache" / name for name in ("trees/.a.tar.zst.1.partial", "initrd/.programs-1.2.partial")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
    whole = tmp_path / "cache/trees/b.tar.zst"
    whole.touch()
    with scratch_folder(tmp_path / "cache", download_bytes=MIB, memory=memory):
        assert [path.exists() for path in (*left, whole)] == [False, False, True]


def test_the_trees_that_were_used_last_are_kept(tmp_path: Path) -> None:
    trees, tools = tmp_path / "trees", PlayedTar(tmp_path / "tools/abc")
    (tmp_path / "cache").mkdir()
    trees.mkdir()
    for age in range(6):
        path = trees / f"{age}.tar.zst"
        path.touch()
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    keep_tree(trees / "new.tar.zst", tmp_path / "cache", tools)
    assert sorted(path.name for path in trees.iterdir()) == ["0.tar.zst", "1.tar.zst", "2.tar.zst", "new.tar.zst"]
    keep_tree(trees / "new.tar.zst", tmp_path / "cache", tools)
    assert len(tools.ran) == 1
