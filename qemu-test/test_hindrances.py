"""What stands in a host's way, and must not stop it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import Host, host_config, machine_folder, updater_credential
from workbench import FIRST, Workbench

from imagebuild.vm.machine import VirtualMachine

pytestmark = pytest.mark.all_faults

# Mounting the boot partition is tried for half a minute, and everything is slow here.
DEADLINE_TIMEOUT_S = 240
LOST = "twinhull-trial-lost.service"
DEADLINE = "twinhull-trial-deadline.service"


@pytest.fixture(scope="module")
def host(bench: Workbench) -> Iterator[Host]:
    config = host_config(bench, bench.disk(FIRST), updater_credential("http://127.0.0.1:9/", enabled=False))
    folder = machine_folder("hindrances")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        yield host


def test_a_deadline_while_the_boot_partition_is_mounted_elsewhere_never_reboots_a_blessed_slot(host: Host) -> None:
    boot = host.machine.shell.boot_id
    partition = host.text("blkid -c /dev/null -l -o device -t PARTLABEL=xbootldr")
    host.text(f"mkdir /run/taken && mount --read-write -t vfat {partition} /run/taken")
    # Blessed before this boot's agent could say so.
    host.text("rm /run/twinhull/blessed")
    host.run(f"systemctl start {DEADLINE}", timeout_s=DEADLINE_TIMEOUT_S)
    # It did run, and whatever it ended with, the unit that reboots did not.
    assert host.text(f"systemctl show --value -p ExecMainStartTimestampMonotonic {DEADLINE}") != "0"
    assert host.text(f"systemctl show --value -p ExecMainStartTimestampMonotonic {LOST}") == "0"
    host.text("umount /run/taken && touch /run/twinhull/blessed")
    assert host.text("cat /proc/sys/kernel/random/boot_id") == boot
