"""Which disk is this host's, and which others look like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from partitions.layout import identity_of
from tests.fakes.gpt_disk import PartitionSpec, disk_image, twin_parts, with_header_field
from tests.fakes.host_folder import write_block_tree
from updater.agent.ground.disks import OtherDisk, other_disks, own_disk
from updater.errors import SlotError

ROOT_HASH = "1" * 32 + "2" * 32


def parts_of(start: int) -> list[PartitionSpec]:
    """The partitions of a host's disk with the release in slot A."""
    parts = [replace(part, uuid=UUID(int=start + number)) for number, part in enumerate(twin_parts())]
    identity = identity_of(ROOT_HASH)
    parts[2] = replace(parts[2], uuid=identity.data_uuid, label="host_1.0.0")
    parts[3] = replace(parts[3], uuid=identity.verity_uuid, label="host_1.0.0")
    return parts


def with_disk_uuid(image: bytes, uuid: UUID) -> bytes:
    sectors = len(image) // 512
    for lba in (1, sectors - 1):
        image = with_header_field(image, lba=lba, offset=56, value=uuid.bytes_le)
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_block_tree(tmp_path, ("vda",), ["x"] * 8)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/vda").write_bytes(disk_image(parts_of(100)))
    return tmp_path


def attach(root: Path, name: str, image: bytes) -> None:
    (root / "sys/devices" / name).mkdir(parents=True)
    (root / "sys/class/block" / name).symlink_to(root / "sys/devices" / name)
    (root / "dev" / name).write_bytes(image)


def test_the_own_disk_is_the_one_under_the_root(root: Path) -> None:
    assert own_disk(root) == "vda"


def test_without_a_device_called_root_there_is_none(root: Path) -> None:
    (root / "sys/class/block/dm-0/dm/name").write_text("swap\n")
    with pytest.raises(SlotError, match="no device is called root"):
        own_disk(root)


def test_a_root_on_two_disks_is_refused(root: Path) -> None:
    write_block_tree(root, ("vda", "vdb"), ["x"] * 8)
    (root / "sys/class/block/dm-0/slaves/vdb4").mkdir()
    with pytest.raises(SlotError, match="vda3, vda4, vdb4"):
        own_disk(root)


def test_the_disk_of_another_host_with_the_same_release_is_reported(root: Path) -> None:
    attach(root, "vdb", with_disk_uuid(disk_image(parts_of(200)), UUID(int=1)))
    assert other_disks(root, ROOT_HASH) == (OtherDisk("vdb", ("release",)),)


def test_a_clone_is_reported_with_all_it_shares(root: Path) -> None:
    attach(root, "vdb", (root / "dev/vda").read_bytes())
    (found,) = other_disks(root, ROOT_HASH)
    assert found.same == ("release", "disk identity", "esp", "xbootldr", "state", "var")
    assert str(found) == (
        "the disk vdb has this host's release, disk identity, esp, xbootldr, state, var; it is not used"
    )


def test_a_copy_of_var_alone_is_reported(root: Path) -> None:
    parts = [replace(part, uuid=UUID(int=300 + number)) for number, part in enumerate(twin_parts())]
    parts[7] = replace(parts[7], uuid=parts_of(100)[7].uuid)
    attach(root, "vdb", with_disk_uuid(disk_image(parts), UUID(int=1)))
    assert other_disks(root, ROOT_HASH) == (OtherDisk("vdb", ("var",)),)


@pytest.mark.parametrize("image", [b"", bytes(1 << 20), b"x" * 100])
def test_disks_without_a_table_are_nothing_remarkable(root: Path, image: bytes) -> None:
    attach(root, "vdb", image)
    assert other_disks(root, ROOT_HASH) == ()


def test_devices_that_are_no_disks_are_not_opened(root: Path) -> None:
    for name in ("loop0", "sr0", "zram0", "dm-7"):
        attach(root, name, (root / "dev/vda").read_bytes())
    assert other_disks(root, ROOT_HASH) == ()


def test_another_disk_altogether_is_not_reported(root: Path) -> None:
    parts = [replace(part, uuid=UUID(int=300 + number)) for number, part in enumerate(twin_parts())]
    attach(root, "vdb", with_disk_uuid(disk_image(parts), UUID(int=1)))
    assert other_disks(root, ROOT_HASH) == ()
