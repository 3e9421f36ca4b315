"""The power cut proof's check of a host's own file systems, on real ones."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from powercut_disk import ReplayedDisk
from powercut_var import FileSystems, FileSystemState

from imagebuild.inputs.tools import Access, ToolsTree
from partitions.gpt import GptEntry

_TYPE = UUID("4d21b016-b534-45c2-a9fb-5c16e091fd2d")
_SECTORS = 32 << 11
_FIRST = 2048
_TIMEOUT_S = 60


@pytest.fixture
def file_systems(tmp_path: Path, tools: ToolsTree) -> FileSystems:
    """An ext4 partition on a disk."""
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate((_FIRST + _SECTORS) * 512)
    words = ["mkfs.ext4", "-q", "-E", f"offset={_FIRST * 512}", str(path), f"{_SECTORS // 2}"]
    tools.run(words, Access(write=(tmp_path,)), timeout_s=_TIMEOUT_S)
    entry = GptEntry(_TYPE, UUID(int=1), _FIRST, _FIRST + _SECTORS - 1, 0, "var")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return FileSystems(ReplayedDisk(path), (entry,), tools, scratch)


def test_a_whole_file_system_is_clean(file_systems: FileSystems) -> None:
    file_systems.check()
    assert file_systems.found == {FileSystemState.CLEAN: 1}


def test_a_damaged_one_is_repaired(file_systems: FileSystems) -> None:
    # The block bitmaps and the inode tables of the first group, with the root folder.
    file_systems.disk.apply(_FIRST * 512 + (64 << 10), b"\xff" * (2 << 20))
    file_systems.check()
    assert file_systems.found == {FileSystemState.REPAIRED: 1}
    assert list(file_systems.scratch.iterdir()) == []


def test_one_without_any_superblock_is_lost(file_systems: FileSystems) -> None:
    file_systems.disk.apply(_FIRST * 512, b"\0" * (_SECTORS * 512))
    file_systems.check()
    assert file_systems.found == {FileSystemState.LOST: 1}
