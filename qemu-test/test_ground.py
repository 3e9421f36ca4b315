"""What is under a host's system: its disk, `/var` and its state, whole and damaged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import Host, host_config, machine_folder, updater_credential
from workbench import FIRST, Workbench

from imagebuild.vm.machine import VirtualMachine


@pytest.fixture(scope="module")
def fresh(bench: Workbench) -> Iterator[Host]:
    """A host in its first boot; no server answers it."""
    config = host_config(bench, bench.disk(FIRST), updater_credential("http://10.0.2.2:9"))
    folder = machine_folder("ground")
    with VirtualMachine(config, tools=bench.tools, accelerator=bench.finding.accelerator, folder=folder) as machine:
        host = Host(machine)
        host.wait_boot()
        host.wait_settled()
        yield host


def test_the_state_has_a_partition_of_its_own(fresh: Host) -> None:
    assert fresh.text("lsblk -no PARTLABEL $(findmnt -no SOURCE /var/lib/twinhull)") == "state"
    assert fresh.text("findmnt -no FSTYPE /var/lib/twinhull") == "ext4"
    assert int(fresh.text("lsblk -bno SIZE $(findmnt -no SOURCE /var/lib/twinhull)")) == 64 << 20
    fresh.text("echo kept > /etc/twinhull-test")
    assert fresh.text("cat /var/lib/twinhull/etc/upper/twinhull-test") == "kept"
    assert fresh.run("ls /run/twinhull/storage").exit_code != 0
