"""A document on the boot partition of real disks: raw and qcow2, made by systemd-repart, looked at by mtools."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.provision.disks import TargetDisk, open_disk
from imagebuild.provision.fat import Geometry, Patch
from imagebuild.provision.placing import Placing
from partitions.gpt import GptEntry

NAME = "twinhull.provision"
FIRST, SECOND = b"hostname: one\n", b"hostname: two\n" * 2000
_PARTITION = """[Partition]
Type=xbootldr
Label=xbootldr
Format=vfat
SizeMinBytes=280M
SizeMaxBytes=280M
CopyFiles=/uki:/EFI/Linux/host_1.0.0.efi
"""
_TIMEOUT_S = 120


class CutError(Exception):
    """The power failed."""


@dataclass
class Interrupted:
    """A disk that loses its power after so many writes."""

    disk: TargetDisk
    left: int
    written: int = field(default=0)

    def copy_boot_partition(self, target: Path) -> GptEntry:
        return self.disk.copy_boot_partition(target)

    def write(self, at: int, groups: Sequence[Sequence[Patch]]) -> None:
        for group in groups:
            for change in group:
                if self.written == self.left:
                    raise CutError
                self.written += 1
                self.disk.write(at, [[change]])


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory, tools: ToolsTree) -> Path:
    """A disk whose boot partition holds one file."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "definitions").mkdir()
    (folder / "definitions/10-boot.conf").write_text(_PARTITION)
    (folder / "root").mkdir()
    (folder / "root/uki").write_bytes(b"kernel" * 5000)
    words = ["systemd-repart", "--empty=create", "--size=300M", "--dry-run=no", "--offline=yes"]
    words += [f"--root={folder / 'root'}", f"--definitions={folder / 'definitions'}", str(folder / "disk.raw")]
    tools.run(words, Access(write=(folder,)), timeout_s=_TIMEOUT_S)
    return folder / "disk.raw"


@pytest.fixture
def disk(blank: Path, tmp_path: Path, tools: ToolsTree) -> Path:
    copy = tmp_path / "disk.raw"
    tools.run(["cp", "--sparse=always", blank, copy], Access(read=(blank,), write=(tmp_path,)), timeout_s=_TIMEOUT_S)
    return copy


def placing(disk: Path, tools: ToolsTree, *, through: int | None = None) -> Placing:
    """The work on a disk; `through`: only so many writes reach it."""
    scratch = disk.parent / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    opened = open_disk(disk, tools, scratch)
    return Placing(opened if through is None else Interrupted(opened, through), tools, scratch)


def content(disk: Path, tools: ToolsTree) -> bytes | None:
    """What the disk holds, as mtools reads it; the file system must be whole."""
    work = placing(disk, tools)
    work.disk.copy_boot_partition(work.scratch / "look")
    words = ["fsck.fat", "-n", str(work.scratch / "look")]
    tools.run(words, Access(write=(work.scratch,)), timeout_s=_TIMEOUT_S)
    assert uki(work, tools) == b"kernel" * 5000
    return _get(work, tools, f"loader/credentials/{NAME}.cred")


def uki(work: Placing, tools: ToolsTree) -> bytes | None:
    return _get(work, tools, "EFI/Linux/host_1.0.0.efi")


def _get(work: Placing, tools: ToolsTree, name: str) -> bytes | None:
    target = work.scratch / "got"
    target.unlink(missing_ok=True)
    words = ["mcopy", "-i", str(work.scratch / "look"), f"::{name}", str(target)]
    tools.run(words, Access(write=(work.scratch,)), timeout_s=_TIMEOUT_S, check=False)
    return target.read_bytes() if target.exists() else None


def test_a_document_is_written_once_replaced_and_removed(disk: Path, tools: ToolsTree) -> None:
    assert content(disk, tools) is None
    assert placing(disk, tools).put(NAME, FIRST)
    assert content(disk, tools) == FIRST
    before = disk.read_bytes()
    assert not placing(disk, tools).put(NAME, FIRST)
    assert disk.read_bytes() == before
    assert placing(disk, tools).put(NAME, SECOND)
    assert content(disk, tools) == SECOND
    assert placing(disk, tools).remove(NAME)
    assert content(disk, tools) is None
    assert not placing(disk, tools).remove(NAME)


def test_a_document_named_in_other_letters_is_the_same_one(disk: Path, tools: ToolsTree) -> None:
    assert placing(disk, tools).put(NAME.upper(), FIRST)
    assert content(disk, tools) == FIRST
    assert placing(disk, tools).put(NAME, SECOND)
    assert content(disk, tools) == SECOND
    assert placing(disk, tools).remove(NAME)
    assert not placing(disk, tools).remove(NAME.upper())


def test_a_qcow2_image_is_written_in_place(disk: Path, tools: ToolsTree) -> None:
    image = disk.with_suffix(".qcow2")
    words = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(image)]
    tools.run(words, Access(write=(disk.parent,)), timeout_s=_TIMEOUT_S)
    assert placing(image, tools).put(NAME, FIRST)
    assert not placing(image, tools).put(NAME, FIRST)
    assert placing(image, tools).put(NAME, SECOND)
    assert content(image, tools) == SECOND
    tools.run(["qemu-img", "check", image], Access(read=(image,)), timeout_s=_TIMEOUT_S)


def test_a_power_cut_at_any_write_leaves_the_old_document_or_the_new_one(disk: Path, tools: ToolsTree) -> None:
    assert placing(disk, tools).put(NAME, FIRST)
    kept = disk.with_name("kept.raw")
    tools.run(["cp", "--sparse=always", disk, kept], Access(write=(disk.parent,)), timeout_s=_TIMEOUT_S)
    seen = []
    for through in range(40):
        tools.run(["cp", "--sparse=always", kept, disk], Access(write=(disk.parent,)), timeout_s=_TIMEOUT_S)
        try:
            assert placing(disk, tools, through=through).put(NAME, SECOND)
        except CutError:
            seen.append(whole_or_lost(disk, tools))
        else:
            break
    assert seen[0] == FIRST
    assert set(seen) == {FIRST, SECOND}
    assert len(seen) >= 5
    assert content(disk, tools) == SECOND


def whole_or_lost(disk: Path, tools: ToolsTree) -> bytes | None:
    """The state after a power cut: lost clusters are allowed, damage is not."""
    work = placing(disk, tools)
    work.disk.copy_boot_partition(work.scratch / "look")
    assert uki(work, tools) == b"kernel" * 5000
    return _get(work, tools, f"loader/credentials/{NAME}.cred")


def test_a_disk_without_a_boot_partition_is_refused(tmp_path: Path, tools: ToolsTree) -> None:
    disk = tmp_path / "disk.raw"
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions/10-other.conf").write_text("[Partition]\nType=linux-generic\nSizeMinBytes=2M\n")
    words = ["systemd-repart", "--empty=create", "--size=8M", "--dry-run=no", "--offline=yes"]
    words += [f"--definitions={tmp_path / 'definitions'}", str(disk)]
    tools.run(words, Access(write=(tmp_path,)), timeout_s=_TIMEOUT_S)
    with pytest.raises(BuildError, match="0 boot partitions"):
        placing(disk, tools).put(NAME, FIRST)


def test_a_damaged_file_system_is_not_written_to(disk: Path, tools: ToolsTree) -> None:
    work = placing(disk, tools)
    entry = work.disk.copy_boot_partition(work.scratch / "look")
    geometry = Geometry.read((work.scratch / "look").read_bytes()[:512])
    with disk.open("r+b") as stream:
        # In both copies of the table every chain of clusters ends with its first one.
        for table in (geometry.table, (geometry.table + geometry.data) // 2):
            stream.seek(entry.offset_bytes + table + 12)
            stream.write(b"\xff\xff\xff\x0f" * 50)
    before = disk.read_bytes()
    with pytest.raises(BuildError, match="damaged"):
        placing(disk, tools).put(NAME, FIRST)
    assert disk.read_bytes() == before
