"""Damaged boot partitions, checked and repaired by the real fsck.fat, made and looked at by mtools."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bedrock.process import Finished
from imagebuild.inputs.tools import Access, ToolsTree
from updater.agent.ground.boot_check import Checked, check_fat, remove_salvaged

RUNNING, OTHER = "container-host_1.0.0.efi", "container-host_1.0.1+3-0.efi"
_END_OF_NAME, _LONG_NAME, _DELETED = 11, 0x0F, 0xE5


class Fat:
    """A file system with two entries."""

    def __init__(self, folder: Path, tools: ToolsTree) -> None:
        self.image, self._tools, self._folder = folder / "boot.img", tools, folder
        for name, size in ((RUNNING, 300_000), (OTHER, 200_000)):
            (folder / name).write_bytes(name.encode() * (size // len(name)))
        self.image.write_bytes(bytes(40 << 20))
        self.run(("mkfs.fat", "-F", "32", "-s", "1", self.image))
        self.run(("mmd", "-i", self.image, "::/EFI", "::/EFI/Linux"))
        for name in (RUNNING, OTHER):
            self.run(("mcopy", "-i", self.image, folder / name, f"::/EFI/Linux/{name}"))

    def run(self, argv: tuple[str | Path, ...], **options: Any) -> Finished:
        options.setdefault("timeout_s", 60)
        return self._tools.run(argv, Access(write=(self._folder,)), **options)

    def check(self, *untouchable: str) -> Checked:
        return check_fat(self.image, untouchable, run=self.run)

    def content(self, name: str) -> bytes:
        target = self._folder / "out"
        target.unlink(missing_ok=True)
        self.run(("mcopy", "-i", self.image, f"::/EFI/Linux/{name}", target))
        return target.read_bytes()

    def names(self) -> list[str]:
        return self.run(("mdir", "-b", "-i", self.image, "::/")).stdout.split()

    def lose(self, short: bytes) -> None:
        """Remove a file's entry and leave its clusters, as a cut between the two writes does."""
        data = bytearray(self.image.read_bytes())
        at = data.index(short)
        data[at] = _DELETED
        at -= 32
        while data[at + _END_OF_NAME] == _LONG_NAME:
            data[at] = _DELETED
            at -= 32
        self.image.write_bytes(data)

    def free_the_end(self, short: bytes) -> None:
        """Free a cluster in the middle of a file."""
        data = bytearray(self.image.read_bytes())
        sector, reserved, copies = struct.unpack_from("<HxHB", data, 11)
        (size,) = struct.unpack_from("<I", data, 36)
        (first,) = struct.unpack_from("<H", data, data.index(short) + 26)
        for copy in range(copies):
            struct.pack_into("<I", data, (reserved + copy * size) * sector + 4 * (first + 50), 0)
        self.image.write_bytes(data)


@pytest.fixture
def fat(tmp_path: Path, tools: ToolsTree) -> Fat:
    return Fat(tmp_path, tools)


def test_a_sound_partition_is_not_written(fat: Fat) -> None:
    before = fat.image.read_bytes()
    assert fat.check(RUNNING) is Checked.SOUND
    assert fat.image.read_bytes() == before


def test_lost_clusters_are_reclaimed_and_the_running_entry_stays(fat: Fat, tmp_path: Path) -> None:
    before = fat.content(RUNNING)
    fat.lose(b"CONTAI~2EFI")
    assert fat.check(RUNNING) is Checked.REPAIRED
    assert fat.content(RUNNING) == before
    assert "::/FSCK0000.REC" in fat.names()
    assert fat.check(RUNNING) is Checked.SOUND


def test_damage_in_the_running_entry_is_left_alone(fat: Fat) -> None:
    fat.free_the_end(b"CONTAI~1EFI")
    before = fat.image.read_bytes()
    assert fat.check(RUNNING) is Checked.LEFT_ALONE
    assert fat.image.read_bytes() == before


def test_damage_in_another_entry_is_repaired(fat: Fat) -> None:
    before = fat.content(RUNNING)
    fat.free_the_end(b"CONTAI~2EFI")
    assert fat.check(RUNNING) is Checked.REPAIRED
    assert fat.content(RUNNING) == before


def test_what_is_no_fat_is_not_written(fat: Fat) -> None:
    fat.image.write_bytes(b"x" * (1 << 20))
    assert fat.check(RUNNING) is Checked.UNREPAIRED
    assert fat.image.read_bytes() == b"x" * (1 << 20)


def test_a_check_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    assert check_fat(tmp_path / "missing", ()) is Checked.UNCHECKED


def test_what_was_salvaged_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("FSCK0000.REC", "fsck0001.rec", "FSCK.REC", "FSCK0000.RECX", "loader.conf"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "FSCK0002.REC").mkdir()

    @contextmanager
    def mount() -> Iterator[Path]:
        yield tmp_path

    assert remove_salvaged(partial(mount)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "FSCK.REC",
        "FSCK0000.RECX",
        "FSCK0002.REC",
        "loader.conf",
    ]
