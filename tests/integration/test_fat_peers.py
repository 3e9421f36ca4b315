"""Our FAT against dosfstools and mtools: what they make we read, what we change they read and find whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bedrock.errors import ProcessError
from imagebuild.inputs.tools import Access, ToolsTree
from partitions.blockio import FileBlockDevice
from partitions.errors import FatError
from partitions.fat.change import SectorWrite, plan_move, plan_rename
from partitions.fat.check import FatFlaw, judge
from partitions.fat.directory import Folder
from partitions.fat.geometry import FatKind
from partitions.fat.volume import FatVolume
from partitions.fat.writing import write_sector

FOLDER = "EFI/Linux"
NAMES = ("host_1.0.0.efi", "host_1.0.1+3-0.efi.new", "a-very-long-image-name_2026.11.27+3-0.efi.new", "SHORT.EFI")
_TIMEOUT_S = 120


def run(tools: ToolsTree, path: Path, *words: str | Path) -> str:
    return tools.run([*map(str, words)], Access(write=(path.parent,)), timeout_s=_TIMEOUT_S).stdout


def content_of(name: str) -> bytes:
    return random.Random(name).randbytes(5000)  # noqa: S311 - content, not a secret


@pytest.fixture(params=["16", "32"])
def image(request: pytest.FixtureRequest, tmp_path: Path, tools: ToolsTree) -> Path:
    path = tmp_path / "fat"
    with path.open("wb") as stream:
        stream.truncate(40 << 20)
    run(tools, path, "mkfs.fat", "-F", request.param, *(["-s", "1"] if request.param == "32" else []), path)
    run(tools, path, "mmd", "-i", path, "::EFI", f"::{FOLDER}", "::loader")
    for name in NAMES:
        put(tools, path, f"{FOLDER}/{name}", content_of(name))
    put(tools, path, "loader/loader.conf", b"default a\n".ljust(512, b"#"))
    return path


def put(tools: ToolsTree, path: Path, name: str, content: bytes) -> None:
    source = path.parent / "content"
    source.write_bytes(content)
    run(tools, path, "mcopy", "-o", "-i", path, source, f"::{name}")


def get(tools: ToolsTree, path: Path, name: str) -> bytes:
    target = path.parent / "got"
    target.unlink(missing_ok=True)
    run(tools, path, "mcopy", "-i", path, f"::{name}", target)
    return target.read_bytes()


def listed(tools: ToolsTree, path: Path) -> list[str]:
    lines = run(tools, path, "mdir", "-b", "-i", path, f"::{FOLDER}").split()
    return sorted(line.removeprefix(f"::/{FOLDER}/") for line in lines)


def folder(path: Path) -> Folder:
    with FileBlockDevice.open(path, writable=False) as device:
        return FatVolume.open(device).folder(FOLDER)


def write(path: Path, *changes: SectorWrite) -> None:
    with FileBlockDevice.open(path, writable=True) as device:
        for change in changes:
            write_sector(device, change)


def flaws(path: Path) -> list[FatFlaw]:
    with FileBlockDevice.open(path, writable=False) as device:
        return [finding.flaw for finding in judge(device)]


def test_what_they_make_is_read(image: Path, tools: ToolsTree) -> None:
    with FileBlockDevice.open(image, writable=False) as device:
        volume = FatVolume.open(device)
        assert volume.geometry.firmware_readable
        entries = {entry.name: volume.read(entry) for entry in volume.folder(FOLDER).entries}
    assert entries == {name: content_of(name) for name in NAMES}
    assert flaws(image) == []


def test_the_backup_of_the_boot_sector_is_where_mkfs_puts_it(image: Path) -> None:
    with FileBlockDevice.open(image, writable=False) as device:
        kind = FatVolume.open(device).geometry.kind
    with image.open("r+b") as stream:
        stream.write(bytes(512))
    with FileBlockDevice.open(image, writable=False) as device:
        if kind is FatKind.FAT16:
            with pytest.raises(FatError, match="not a FAT file system"):
                FatVolume.open(device)
            return
        found = FatVolume.open(device)
        assert found.geometry.from_backup
        assert found.find(f"{FOLDER}/{NAMES[0]}") is not None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (NAMES[1], "host_1.0.1+3-0.efi"),
        (NAMES[1], "h.efi"),
        (NAMES[1], "H.EFI"),
        (NAMES[3], "short.efi"),
        (NAMES[1], "HOST_1.0.1+3-0.EFI.NEW"),
    ],
)
def test_they_read_what_we_renamed(image: Path, tools: ToolsTree, old: str, new: str) -> None:
    change = plan_rename(folder(image), old, new)
    if isinstance(change, SectorWrite):
        write(image, change)
    else:
        write(image, *plan_move(folder(image), old, new))
    assert listed(tools, image) == sorted(new if name == old else name for name in NAMES)
    assert get(tools, image, f"{FOLDER}/{new}") == content_of(old)
    for name in NAMES:
        if name != old:
            assert get(tools, image, f"{FOLDER}/{name}") == content_of(name)
    run(tools, image, "fsck.fat", "-n", image)
    assert flaws(image) == []


def test_every_place_of_an_entry_can_be_renamed_or_moved(image: Path, tools: ToolsTree) -> None:
    moved = 0
    for number in range(16):
        name = f"image-{number:02}_1.0.{number}+3-0.efi.new"
        put(tools, image, f"{FOLDER}/{name}", content_of(name))
        change = plan_rename(folder(image), name, name.removesuffix(".new"))
        if isinstance(change, SectorWrite):
            write(image, change)
        else:
            moved += 1
            write(image, *plan_move(folder(image), name, name.removesuffix(".new")))
        assert get(tools, image, f"{FOLDER}/{name.removesuffix('.new')}") == content_of(name)
        run(tools, image, "fsck.fat", "-n", image)
    assert 0 < moved < 16
    assert flaws(image) == []


def test_a_file_of_one_sector_is_replaced(image: Path, tools: ToolsTree) -> None:
    new = b"default b\n".ljust(512, b"#")
    with FileBlockDevice.open(image, writable=True) as device:
        write_sector(device, FatVolume.open(device).plan_replace("loader/loader.conf", new))
    assert get(tools, image, "loader/loader.conf") == new
    run(tools, image, "fsck.fat", "-n", image)


@pytest.mark.parametrize("damage", ["chain", "doubled", "lost"])
def test_both_find_the_same_damage(image: Path, tools: ToolsTree, damage: str) -> None:
    with FileBlockDevice.open(image, writable=False) as device:
        volume = FatVolume.open(device)
        geometry = volume.geometry
        found = volume.folder(FOLDER)
    entry = found.require(NAMES[0])
    raw = bytearray(image.read_bytes())
    if damage == "doubled":
        offset = found.offset_of(found.require(NAMES[3]).last_slot)
        raw[offset : offset + 11] = entry.short_name
        wanted = FatFlaw.DOUBLED_NAME
    else:
        size = geometry.kind.entry_bytes
        target = entry.first_cluster if damage == "chain" else geometry.cluster_count // 2
        value = found.require(NAMES[1]).first_cluster if damage == "chain" else 0xFFFF | 0x0FFF0000 * (size == 4)
        for copy in range(2):
            at = geometry.table_offset + copy * geometry.table_bytes + target * size
            raw[at : at + size] = value.to_bytes(size, "little")
        wanted = FatFlaw.CROSS_LINKED if damage == "chain" else FatFlaw.LOST_CLUSTERS
    image.write_bytes(raw)
    assert wanted in flaws(image)
    with pytest.raises(ProcessError):
        run(tools, image, "fsck.fat", "-n", image)
