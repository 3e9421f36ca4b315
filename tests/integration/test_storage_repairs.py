"""Damaged `/var` and state, repaired by the functions of the initrd with the real e2fsck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuild.definition.initrd import FILES
from imagebuild.inputs.tools import Access, ToolsTree

TEXT = "kept over the damage\n"
SIZES = {"state": 64 << 20, "var": 256 << 20}
SCRIPT = """
set -u
say() { echo "$*"; }
more_time() { :; }
. "$1"
note() { echo "NOTE $*"; }
on_damage=repair lost=
case $4 in
format) format "$2" "$3" ;;
check) check "$2" "$3" || echo "GIVEN UP lost=$lost $trouble" ;;
esac
"""


@dataclass
class Ext4:
    """A file system as the initrd makes it, with a file in a folder."""

    what: str
    image: Path
    tools: ToolsTree

    def run(self, *words: str | Path, check: bool = True) -> str:
        access = Access(read=(FILES,), write=(self.image.parent,))
        return self.tools.run(
            list(words), access, timeout_s=120, check=check, env={"PATH": "/usr/sbin:/usr/bin"}
        ).stdout

    def call(self, function: str) -> str:
        script = FILES / "usr/lib/twinhull/storage.sh"
        return self.run("sh", "-c", SCRIPT, "sh", script, self.what, self.image, function)

    def make(self) -> None:
        with self.image.open("wb") as stream:
            stream.truncate(SIZES[self.what])
        self.call("format")
        source = self.image.parent / "source"
        source.write_text(TEXT)
        requests = ("mkdir folder", f"write {source} folder/file")
        self.run("debugfs", "-w", "-R", requests[0], self.image)
        self.run("debugfs", "-w", "-R", requests[1], self.image)

    def spoil(self, at: int, length: int) -> None:
        with self.image.open("r+b") as stream:
            stream.seek(at)
            assert any(stream.read(length)), "nothing is there to be damaged"
            stream.seek(at)
            stream.write(bytes(length))

    def block_of(self, request: str) -> tuple[int, int]:
        """A block that debugfs names first, in bytes, and the size of one."""
        stats = self.run("debugfs", "-R", "stats -h", self.image)
        size = next(int(line.split()[-1]) for line in stats.splitlines() if line.startswith("Block size:"))
        return int(self.run("debugfs", "-R", request, self.image).split()[0]) * size, size

    def found(self) -> bool:
        """Whether the file is somewhere, by its content."""
        for path in ("folder/file", *self.saved()):
            if self.run("debugfs", "-R", f"cat {path}", self.image, check=False) == TEXT:
                return True
        return False

    def saved(self) -> list[str]:
        rows = self.run("debugfs", "-R", "ls -p /lost+found", self.image).splitlines()
        names = [f"/lost+found/{row.split('/')[5]}" for row in rows if row.startswith("/") and "#" in row]
        return [*names, *(f"{name}/file" for name in names)]


@pytest.fixture(params=SIZES)
def ext4(request: pytest.FixtureRequest, tmp_path: Path, tools: ToolsTree) -> Ext4:
    made = Ext4(request.param, tmp_path / "image", tools)
    made.make()
    return made


def superblock(ext4: Ext4) -> None:
    ext4.spoil(1024, 1024)


def superblock_and_descriptors(ext4: Ext4) -> None:
    ext4.spoil(1024, 1024)
    ext4.spoil(2048 if ext4.what == "state" else 4096, 1024)


def directory_block(ext4: Ext4) -> None:
    # The kernel came across it, and said so in the superblock; until then nothing looks.
    ext4.run("debugfs", "-w", "-R", "set_super_value state 2", ext4.image)
    ext4.spoil(*ext4.block_of("blocks folder"))


DAMAGES: tuple[Callable[[Ext4], None], ...] = (superblock, superblock_and_descriptors, directory_block)


def test_what_is_whole_is_not_repaired(ext4: Ext4) -> None:
    said = ext4.call("check")
    assert "NOTE" not in said
    assert "GIVEN UP" not in said
    assert ext4.found()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_damage_is_repaired_and_files_are_found_again(ext4: Ext4, damage: Callable[[Ext4], None]) -> None:
    damage(ext4)
    said = ext4.call("check")
    assert "GIVEN UP" not in said
    assert ext4.run("e2fsck", "-fn", ext4.image)
    assert ext4.found()


def test_a_file_system_that_is_gone_is_given_up_as_lost(ext4: Ext4) -> None:
    ext4.image.write_bytes(bytes(SIZES[ext4.what]))
    assert "GIVEN UP lost=yes" in ext4.call("check")


def test_another_file_system_is_not_touched(ext4: Ext4) -> None:
    # An old ext4's spare superblocks are still there.
    ext4.run("mkfs.fat", "-F", "32", ext4.image)
    before = ext4.image.read_bytes()
    said = ext4.call("check")
    assert "GIVEN UP lost=yes" in said
    assert "holds vfat" in said
    assert ext4.image.read_bytes() == before
