"""What root on a host, whoever sets a machine's SMBIOS strings, and a damaged partition table cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hosts import Host, host_config, machine_folder, updater_credential
from update_server import UpdateServer, running
from workbench import FIRST, PROVISIONED, SECOND, Workbench

from imagebuild.vm.disks import DiskKind
from imagebuild.vm.machine import VirtualMachine
from keys.secureboot import measured

pytestmark = pytest.mark.all_faults

FOREIGN = (
    "rdinit=/usr/bin/sh",
    f"roothash={'ab' * 32}",
    "lockdown=none",
    "debugfs=on",
    "systemd.unit=rescue.target",
    "systemd.mask=twinhull-bless.service",
)
STRING = f"io.systemd.stub.kernel-cmdline-extra={' '.join(FOREIGN)}"
SECTOR = 512
ZERO_PCR = "0" * 64
# The image itself is the container's root file system, so nothing has to be pulled.
IN_A_PRIVILEGED_CONTAINER = (
    "podman run --rm --privileged --network none --security-opt label=disable --rootfs /:O /bin/sh -c "
)


@dataclass(frozen=True)
class Locked:
    """A host that was started with kernel arguments from outside, and its first status."""

    host: Host
    status: dict[str, Any]


@pytest.fixture(scope="module")
def locked(bench: Workbench) -> Iterator[Locked]:
    repository = bench.repository("locks", SECOND)
    with running(UpdateServer(repository.base)) as server:
        config = host_config(bench, bench.disk(FIRST), updater_credential(server.guest_url, enabled=False))
        config = replace(config, tpm=True, smbios_strings=(STRING,))
        accelerator = bench.finding.accelerator
        with VirtualMachine(config, tools=bench.tools, accelerator=accelerator, folder=machine_folder("locks")) as vm:
            host = Host(vm)
            host.wait_boot()
            yield Locked(host, host.wait_settled())


def refused(host: Host, command: str, reason: str) -> bool:
    """Whether a command fails, and for that reason."""
    answer = host.run(command)
    return answer.exit_code != 0 and reason in answer.output


def test_kernel_arguments_from_outside_have_no_effect_and_are_shown(bench: Workbench, locked: Locked) -> None:
    assert tuple(locked.status["foreign_arguments"]) == FOREIGN
    assert "no effect    kernel arguments from outside: rdinit=/usr/bin/sh" in locked.host.text("updater status")
    # The kernel did get them, and nothing else reads them.
    assert STRING.partition("=")[2] in locked.host.text("dmesg")
    own = (bench.build(FIRST) / "config/cmdline").read_text().split()
    assert own[-1] == "--"
    assert locked.host.text("cat /proc/cmdline").split() == own[:-1]
    assert locked.host.text("systemctl is-active multi-user.target rescue.target || :").split() == [
        "active",
        "inactive",
    ]


def test_exactly_one_root_hash_counts(bench: Workbench, locked: Locked) -> None:
    release = json.loads((bench.build(FIRST) / "release.json").read_text())
    assert locked.status["root_hash"] == release["root_hash"]


def test_kernel_arguments_from_outside_are_measured(locked: Locked) -> None:
    assert locked.host.text("cat /sys/class/tpm/tpm0/pcr-sha256/12") != ZERO_PCR


def test_the_kernel_is_locked_down(locked: Locked) -> None:
    host = locked.host
    assert "[integrity]" in host.text("cat /sys/kernel/security/lockdown")
    assert host.text("cat /sys/module/module/parameters/sig_enforce") == "Y"
    assert host.run("test -e /sys/kernel/debug").exit_code != 0
    assert "heap free:on" in host.text("dmesg | grep 'mem auto-init'")
    assert host.text("systemctl --failed --no-legend --plain") == ""


def test_a_module_without_a_signature_is_refused(locked: Locked) -> None:
    # A signature is what follows the last byte of the module itself.
    unsign = "head -c -64 $(modinfo -n dummy) > /run/dummy.ko && insmod /run/dummy.ko"
    assert locked.host.run("modprobe dummy").exit_code == 0
    locked.host.run("rmmod dummy")
    assert locked.host.run(unsign).exit_code != 0


def test_root_cannot_write_to_the_partitions_of_a_slot(locked: Locked) -> None:
    host = locked.host
    before = host.text("head -c 1M /dev/vda3 | sha256sum")
    for number in (3, 4, 5, 6):
        command = f"LC_ALL=C dd if=/dev/zero of=/dev/vda{number} bs=4096 count=1 conv=notrunc,fsync"
        assert refused(host, command, "Operation not permitted")
        assert refused(host, f"{IN_A_PRIVILEGED_CONTAINER}'{command}'", "Operation not permitted")
    assert host.text("head -c 1M /dev/vda3 | sha256sum") == before


def test_no_process_but_the_agent_can_write_to_the_whole_disk(locked: Locked) -> None:
    host = locked.host
    # Where the table ends that nobody reads at this size: the last block of the disk.
    last = "$(($(blockdev --getsz /dev/vda) / 8 - 1))"
    command = f"LC_ALL=C dd if=/dev/vda of=/dev/vda bs=4096 count=1 skip={last} seek={last} conv=notrunc"
    assert refused(host, command, "Operation not permitted")
    assert refused(host, f"{IN_A_PRIVILEGED_CONTAINER}'{command}'", "Operation not permitted")
    node = "mknod /dev/own b 253 0 && " + command.replace("of=/dev/vda", "of=/dev/own")
    assert refused(host, node, "Operation not permitted")
    assert host.run("head -c 4096 /dev/vda | cmp - /dev/null").exit_code != 0
    assert host.text("systemd-run --wait --pipe -q head -c 4096 /dev/vda | wc -c") == "4096"


def test_other_disks_are_free(locked: Locked) -> None:
    loop = "truncate -s 1M /var/tmp/own && losetup --find --show /var/tmp/own"
    assert locked.host.run(f"dd if=/dev/zero of=$({loop}) bs=4096 count=1").exit_code == 0


def test_a_mounted_device_cannot_be_written_past_its_file_system(locked: Locked) -> None:
    for place in ("/var", "/var/lib/twinhull"):
        device = locked.host.text(f"findmnt -no SOURCE {place}")
        assert refused(locked.host, f"LC_ALL=C dd if=/dev/zero of={device} bs=4096 count=1 conv=notrunc", "busy")


def test_the_agent_still_updates(locked: Locked) -> None:
    answer = locked.host.update()
    assert answer.exit_code == 0, answer.output
    status = locked.host.status()
    assert status["inactive"] == {"slot": "b", "state": "staged", "version": SECOND}
    read_only = (
        "cat /sys/class/block/vda3/ro /sys/class/block/vda4/ro /sys/class/block/vda5/ro /sys/class/block/vda6/ro"
    )
    assert locked.host.text(read_only).split() == ["1"] * 4
    again = "LC_ALL=C dd if=/dev/zero of=/dev/vda bs=4096 count=0 conv=notrunc"
    assert refused(locked.host, again, "Operation not permitted")


def test_an_operator_can_take_the_gate_away(locked: Locked) -> None:
    locked.host.text("updater open-disk")
    assert locked.host.run("dd if=/dev/zero of=/dev/vda bs=4096 count=0 conv=notrunc").exit_code == 0


def test_what_a_uki_predicts_is_what_a_tpm_measures_and_opens_a_secret(bench: Workbench) -> None:
    version = PROVISIONED[0]
    build = bench.build(version)
    config = replace(host_config(bench, build / "disk.raw"), tpm=True)
    folder = machine_folder("measured")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        values = {each.phase: each.value.hex() for each in measured.measurements_of(build / "uki.efi")}
        # This image has the TPM's libraries, so systemd extends the register as the boot goes on.
        assert host.text("cat /sys/class/tpm/tpm0/pcr-sha256/11").lower() == values["sysinit:ready"]
        seal = "systemd-creds --with-key=tpm2-with-public-key --tpm2-pcrs= encrypt --name=x - /run/sealed"
        host.text(f"echo secret | {seal}")
        # Neither file is named on the command line: systemd finds what the initrd kept.
        assert host.text("systemd-creds --name=x decrypt /run/sealed -") == "secret"
        host.text("/usr/lib/systemd/systemd-pcrextend --pcr=11 another-phase")
        assert host.run("systemd-creds --name=x decrypt /run/sealed -").exit_code != 0


def test_a_disk_whose_first_partition_table_is_torn_boots_where_firmware_does_not_repair_it(bench: Workbench) -> None:
    build, folder = bench.build(FIRST), machine_folder("torn-table")
    disk = bench.disk_copy(FIRST, folder / "disk")
    with disk.open("r+b") as stream:
        stream.seek(SECTOR)
        stream.write(bytes(SECTOR // 2))
    # OVMF has no driver for this controller, so that it cannot repair the table before the kernel reads it.
    config = replace(host_config(bench, disk), disk_kind=DiskKind.PVSCSI, uki=build / "uki.efi")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        assert host.wait_settled()["version"] == FIRST
        assert "Primary GPT is invalid, using alternate GPT" in host.text("journalctl -k -o cat --no-pager")
