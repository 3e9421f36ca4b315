"""One image starts from every kind of disk that QEMU plays, and each host is blessed.

One kind runs with all tests; the rest with `make test-disks`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hosts import Host, host_config, machine_folder, updater_credential
from workbench import DISKS, FIRST, Workbench

from imagebuild.attest.materials import ReleasePart
from imagebuild.attest.sbom import PART
from imagebuild.inputs.tools import Access
from imagebuild.inspection.record import read_contents
from imagebuild.vm.disks import DiskKind
from imagebuild.vm.machine import VirtualMachine

# What must drive the disk, so that no other way to it can pass.
DRIVERS = {
    DiskKind.NVME: "nvme",
    DiskKind.USB: "usb-storage",
    DiskKind.AHCI: "ahci",
    DiskKind.VIRTIO_SCSI: "virtio_scsi",
    DiskKind.UAS: "uas",
    DiskKind.MEGASAS: "megaraid_sas",
    DiskKind.PVSCSI: "vmw_pvscsi",
}
ALWAYS = (DiskKind.NVME,)
# From the partition of /var up to its controller.
DRIVERS_ON_THE_WAY = """
path=$(readlink -f "/sys/class/block/$(basename "$(findmnt -no SOURCE /var)")")
while [ "$path" != /sys/devices ]; do
    if [ -e "$path/driver" ]; then basename "$(readlink -f "$path/driver")"; fi
    path=$(dirname "$path")
done
"""


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.value, marks=() if kind in ALWAYS else pytest.mark.all_disks) for kind in DRIVERS],
)
def test_a_host_starts_from_the_disk_and_is_blessed(bench: Workbench, kind: DiskKind) -> None:
    build = bench.build(DISKS)
    # No server answers there; a host is healthy without one.
    config = host_config(bench, build / "disk.raw", updater_credential("http://10.0.2.2:9"))
    config = replace(config, disk_kind=kind, uki=None if kind.firmware_can_read else build / "uki.efi")
    folder = machine_folder(f"disk-{kind.value}")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        status = host.wait_settled()
        assert status["version"] == DISKS
        assert DRIVERS[kind] in host.text(DRIVERS_ON_THE_WAY).split()


@pytest.mark.all_disks
def test_a_disk_without_a_driver_is_named_on_the_console(bench: Workbench) -> None:
    # The reference image has no driver for RAID controllers.
    build = bench.build(FIRST)
    config = host_config(bench, build / "disk.raw")
    config = replace(config, disk_kind=DiskKind.MEGASAS, uki=build / "uki.efi", guest_shell=False)
    folder = machine_folder("disk-without-driver")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        machine.wait_for_console(r"no driver for the controller \S+, 0x1000:0x005b of class 0x010400", timeout_s=300)
        machine.wait_for_console(r"set drivers: server", timeout_s=60)


@pytest.mark.all_disks
def test_microcode_and_firmware_of_disk_drivers_are_in_the_initrd(bench: Workbench, tmp_path: Path) -> None:
    build = bench.build(DISKS)
    words: list[str | Path] = ["objcopy", "--output-target=binary", "--only-section=.initrd"]
    access = Access(read=(build,), write=(tmp_path,))
    bench.tools.run([*words, build / "uki.efi", tmp_path / "initrd"], access, timeout_s=60)
    initrd = (tmp_path / "initrd").read_bytes()
    # The kernel looks for this name in a plain archive that nothing precedes.
    assert initrd.startswith(b"070701")
    assert b"kernel/x86/microcode/GenuineIntel.bin\0" in initrd[:1024]
    shipped = {entry.path for entry in read_contents(build).entries}
    assert not [path for path in shipped if "-ucode/" in path]
    assert "/usr/lib/firmware/ql2500_fw.bin" in shipped
    rows = json.loads((build / "sbom.cdx.json").read_text())["components"]
    parts = {row["name"]: {each["value"] for each in row["properties"] if each["name"] == PART} for row in rows}
    assert ReleasePart.INITRD.value in parts["intel-microcode"]
    assert parts["firmware-qlogic"] == {ReleasePart.ROOT.value, ReleasePart.INITRD.value}
