from __future__ import annotations

import pytest

from imagebuild.vm.disks import DiskKind, disk_devices


@pytest.mark.parametrize("kind", DiskKind)
def test_every_kind_puts_the_drive_on_the_disk_and_starts_from_it(kind: DiskKind) -> None:
    *controllers, disk = disk_devices(kind, "system")[1::2]
    assert disk.endswith(",drive=system,bootindex=1")
    assert not any("drive=" in each for each in controllers)


def test_a_disk_of_its_own_has_no_controller() -> None:
    assert disk_devices(DiskKind.NVME, "d") == ["-device", "nvme,serial=twinhull,drive=d,bootindex=1"]


def test_a_controller_comes_before_its_disk() -> None:
    devices = disk_devices(DiskKind.PVSCSI, "d")[1::2]
    assert devices == ["pvscsi,id=controller", "scsi-hd,drive=d,bootindex=1"]


def test_a_disk_behind_usb_attached_scsi_is_two_steps_away() -> None:
    devices = disk_devices(DiskKind.UAS, "d")[1::2]
    assert devices == [
        "qemu-xhci,id=controller",
        "usb-uas,id=uas,bus=controller.0",
        "scsi-hd,bus=uas.0,drive=d,bootindex=1",
    ]
